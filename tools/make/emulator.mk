# tests/emu: a CUDA toolkit for the CPU, built three times from the same sources. In each mode a kernel file, the host
# file that calls it and a test compile by the pattern rules below ($(BUILD)/emu/<mode>/<path without suffix>.o) and
# link with $(BUILD)/emu/<mode>/libemu.a and $(EMU_LDLIBS). tests/emu/README.md explains how to use it.

EMU_MODES := plain asan race
EMU_CLANG := $(findstring clang,$(shell $(CXX) --version 2>/dev/null))
# Kernels are never compiled with the host's -march: without fused multiply-adds a result is the same on every machine.
EMU_CPPFLAGS := -D_GNU_SOURCE -Itests/emu/include -Itests/emu -I. $(addprefix -isystem ,$(OPENBLAS_INC))
# Large stack frames probe each page, so that a stack overflow hits the guard page. -O1 and -g1, which has the lines of
# reports, halve the time to compile the kernels, and the tests run as fast; the toolkit itself gets -O2.
EMU_FLAGS    := -O1 -g1 $(WARN) -Wno-unknown-pragmas -fstack-clash-protection
EMU_LDLIBS   := $(OPENBLAS_LD) -lopenblas -lcmocka -ldl -lm
EMU_HOST_asan    := -fsanitize=address,undefined -fno-sanitize-recover=all
EMU_LIB_asan     := $(EMU_HOST_asan)
EMU_LIB_plain    := -O2
EMU_LIB_race     := -O2 -DEMU_RACE
EMU_KERNEL_asan  := $(EMU_HOST_asan)
EMU_KERNEL_race  := -fsanitize=thread,alignment $(if $(EMU_CLANG),-mllvm -tsan-distinguish-volatile=1 \
    -mllvm -tsan-instrument-func-entry-exit=0,--param tsan-distinguish-volatile=1 \
    --param tsan-instrument-func-entry-exit=0)
EMU_LIB_SRC := $(filter-out tests/emu/test_% %/numerics_oracle.cpp,$(wildcard tests/emu/*.cpp))

# $(call emu_compile,COMPILER AND STANDARD,FLAGS,MODE)
define emu_compile
	$(call say,EMU,$< ($(3)))
	@mkdir -p $(@D)
	$(Q)$(1) $(EMU_CPPFLAGS) $(EMU_FLAGS) $(2) $(DEPFLAGS) -c $< -o $@
endef

define EMU_RULES
$(BUILD)/emu/$(1)/libemu.a: $(EMU_LIB_SRC:tests/emu/%.cpp=$(BUILD)/emu/$(1)/lib/%.o)
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
$(BUILD)/emu/$(1)/lib/%.o: tests/emu/%.cpp $(BUILD)/gen/flags
	$$(call emu_compile,$(CXX) -std=c++17,$$(EMU_LIB_$(1)),$(1))
$(BUILD)/emu/$(1)/%.o: %.cu $(BUILD)/gen/flags
	$$(call emu_compile,$(CXX) -std=c++17 -x c++,$$(EMU_KERNEL_$(1)) $$(EMU_OPT),$(1))
$(BUILD)/emu/$(1)/%.o: %.cpp $(BUILD)/gen/flags
	$$(call emu_compile,$(CXX) -std=c++17,$$(EMU_HOST_$(1)),$(1))
$(BUILD)/emu/$(1)/%.o: %.c $(BUILD)/gen/flags
	$$(call emu_compile,$(CC) -std=c11,$$(EMU_HOST_$(1)),$(1))
# Links a test program of this mode; the next rules name the further objects of some.
$(BUILD)/emu/$(1)/test_emu_%: $(BUILD)/emu/$(1)/tests/emu/test_emu_%.o $(BUILD)/emu/$(1)/libemu.a
	$$(call say,LINK,$$@)
	$$(Q)$(CXX) $(EMU_HOST_$(1)) $$(filter %.o,$$^) $$(filter %.a,$$^) $(EMU_LDLIBS) -o $$@
$(BUILD)/emu/$(1)/test_emu_faults: $(addprefix $(BUILD)/emu/$(1)/tests/emu/,faults.o example/recurrence.o)
$(addprefix $(BUILD)/emu/$(1)/test_emu_,device runtime cublas): $(BUILD)/emu/$(1)/tests/emu/device_kernels.o
$(BUILD)/emu/$(1)/test_emu_cell: $(BUILD)/emu/$(1)/tests/emu/cell_kernels.o
$(BUILD)/emu/$(1)/example: $(addprefix $(BUILD)/emu/$(1)/tests/emu/example/,main.o recurrence.o) \
    $(BUILD)/emu/$(1)/libemu.a
	$$(call say,LINK,$$@)
	$$(Q)$(CXX) $(EMU_HOST_$(1)) $$^ $(EMU_LDLIBS) -o $$@
.PRECIOUS: $(BUILD)/emu/$(1)/%.o
endef
$(foreach mode,$(EMU_MODES),$(eval $(call EMU_RULES,$(mode))))

# Every test of the emulator runs in the plain mode. The tests of faults that a kernel can have also run under ASan and
# with the race detector.
EMU_TESTS     := $(notdir $(basename $(wildcard tests/emu/test_emu_*.c*)))
EMU_OF_KERNEL := $(addprefix test_emu_,faults runtime device)
EMU_OF_ASAN   := $(EMU_OF_KERNEL) test_emu_cell
EMU_TEST_BIN  := $(addprefix $(BUILD)/emu/asan/,$(EMU_OF_ASAN))
ifeq ($(SAN),)
EMU_TEST_BIN  += $(addprefix $(BUILD)/emu/plain/,$(EMU_TESTS)) $(addprefix $(BUILD)/emu/race/,$(EMU_OF_KERNEL))
endif

# numerics_oracle computes with the real toolkit's headers, if there is a toolkit; test_emu_numerics compares with it.
CUDA_HOME ?= $(firstword $(wildcard /usr/local/cuda))
ifneq ($(wildcard $(CUDA_HOME)/include/curand_kernel.h),)
$(BUILD)/emu/plain/test_emu_numerics: | $(BUILD)/emu/numerics_oracle
endif
$(BUILD)/emu/numerics_oracle: tests/emu/numerics_oracle.cpp $(BUILD)/gen/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -O2 -w -isystem $(CUDA_HOME)/include -isystem $(CUDA_HOME)/include/cccl $< -o $@

# Rewrites the table of tests/emu/README.md from the results of the three builds; test_emu_table fails if it is stale.
.PHONY: emu-table emu-example bench-emu
emu-table: $(foreach mode,$(EMU_MODES),$(BUILD)/emu/$(mode)/test_emu_faults) $(BUILD)/emu/plain/test_emu_table
	$(Q)PLSTM_BUILD=$(BUILD) $(BUILD)/emu/plain/test_emu_table --write

emu-example: $(foreach mode,$(EMU_MODES),$(BUILD)/emu/$(mode)/example)
	$(Q)for mode in $(EMU_MODES); do printf '%-6s' $$mode; $(BUILD)/emu/$$mode/example || exit 1; done

BENCH_EMU := $(addprefix $(BUILD)/bench/bench_emu_,plain race)
$(BENCH_EMU): $(BUILD)/bench/bench_emu_%: $(BUILD)/emu/%/bench/bench_emu.o \
    $(BUILD)/emu/%/tests/emu/bench_kernels.o $(BUILD)/emu/%/libemu.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) $^ $(EMU_LDLIBS) -lbenchmark -o $@
bench-emu: $(BENCH_EMU)
	$(Q)for b in $^; do $$b --benchmark_out=$$b.json --benchmark_out_format=json || exit 1; done

# ASan and UBSan make the unrolled kernels ten times as large, so optimising one takes a minute and saves only a second.
$(patsubst %.cu,$(BUILD)/emu/asan/%.o,$(wildcard kernels/fwd_*.cu kernels/bwd_*.cu) tests/emu/faults.cu): EMU_OPT = -O0
# The plain build reports a misaligned vector access only where the compiler uses a vector instruction for it.
$(BUILD)/emu/plain/tests/emu/faults.o: EMU_OPT = -O2
