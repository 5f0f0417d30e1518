# The cpu backend: the flags of its loops, and its benchmark beside PyTorch.

# Use whole 512-bit registers if the CPU has them; gcc's default for some CPUs is half. Allow fused multiply-adds in the
# register tiles, and ignore traps and errno in the cell's loops; sums keep their order.
WIDE := $(shell $(CC) -mprefer-vector-width=512 -E -x c /dev/null >/dev/null 2>&1 && echo -mprefer-vector-width=512)
$(patsubst %,$(BUILD)/%.o,$(addprefix host/backend/,sgemm tile backend_cpu) tests/host/test_backend_cpu): \
    CFLAGS += -ffp-contract=fast -fno-math-errno -fno-trapping-math $(WIDE)

PEER ?=
PEER_PYTHON ?= $(if $(filter pypi,$(PEER)),$(BUILD)/peer/bin/python)
bench: deps
	$(Q)$(MAKE) --no-print-directory bench-run

.PHONY: bench-run
bench-run: $(BUILD)/bench/bench_cpu $(BENCH_EMU) $(if $(filter pypi,$(PEER)),$(PEER_PYTHON))
	$(Q)$(PYTHON) tools/bench_cpu.py --bench $(BUILD)/bench/bench_cpu --out $(BUILD)/bench \
	    $(if $(PEER_PYTHON),--python $(PEER_PYTHON)) $(if $(HIDDEN),--hidden $(HIDDEN))
	$(Q)$(MAKE) --no-print-directory bench-emu

$(BUILD)/peer/bin/python:
	$(call say,VENV,$(BUILD)/peer)
	$(Q)$(PYTHON) -m venv $(BUILD)/peer && $(BUILD)/peer/bin/pip install --quiet torch

$(BUILD)/bench/bench_cpu.o: CPPFLAGS += -DPLSTM_MARCH='"$(MARCH)"'
$(BUILD)/bench/bench_cpu: $(BUILD)/bench/bench_cpu.o $(HOST_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CXX) $^ $(LDFLAGS) $(LDLIBS) -lbenchmark -o $@
