# Builds and runs the tests, also under sanitizers, and the fuzzers.

# The tests of the host, and those of the benchmarks' decisions (C++), which are linked without the GPU code.
TEST_BIN := $(patsubst tests/host/%.c,$(BUILD)/tests/%,$(wildcard tests/host/test_*.c))
$(TEST_BIN): $(BUILD)/tests/%: $(BUILD)/tests/host/%.o $(TEST_HELP) $(HOST_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(LDFLAGS) $(LDLIBS) -lcmocka -o $@
BENCH_TEST_BIN := $(patsubst tests/gpu/%.cpp,$(BUILD)/tests/%,$(wildcard tests/gpu/test_*.cpp))
$(BENCH_TEST_BIN): $(BUILD)/tests/test_%: $(BUILD)/tests/gpu/test_%.o $(BUILD)/bench/%.o
	$(call say,LINK,$@)
	$(Q)$(CXX) $^ $(LDFLAGS) -lcmocka -ljansson -lm -o $@

# These tests need Slurm, mpirun and GNU parallel, which tools/deps.sh engines installs, and are not part of `make
# test`.
TEST_ENGINES := tests/engines/test_engines.py
TEST_PY  := $(filter-out $(TEST_ENGINES),$(wildcard tests/*/test_*.py))
TEST_BIN += $(BENCH_TEST_BIN) $(EMU_TEST_BIN) $(CUDA_TEST_BIN)
# These do not run beside another test. The first three have threads of their own or measure time; test_emu_table reads
# what the three test_emu_faults have written, and would run them itself if it came first.
TEST_ALONE  := $(filter %/test_backend_cpu %/test_report %/test_kill.py %/test_emu_table,\
    $(TEST_BIN) $(TEST_PY))
# The longest tests start first, so that no core is idle at the end.
TEST_LONGEST := test_gpu_run.py test_litmus.py test_persistent_faults.py asan/test_kernels test_rehearsal.py \
    test_frames_runs.py test_field.py plain/test_emu_build test_cuda_faults plain/test_backend_cuda \
    test_cluster_faults.py test_bench_gpu.py test_caption_runs.py test_sass.py
TEST_FIRST  := $(foreach t,$(TEST_LONGEST),$(filter %/$t,$(TEST_BIN) $(TEST_PY)))
TEST_BESIDE := $(TEST_FIRST) $(filter-out $(TEST_ALONE) $(TEST_FIRST),$(TEST_BIN) $(TEST_PY))
# Run three tests at a time, also on two cores, since some wait most of their time.
RUN_TESTS    = NVCC='$(NVCC)' K20_CUDA='$(K20_CUDA)' $(PYTHON) tools/make/run_tests.py -j 3 --build $(BUILD)

.PHONY: tests-built sanitize-run
tests-built: all $(TEST_BIN) $(BUILD)/tools/claims

test: deps
	$(Q)$(MAKE) --no-print-directory tests-built
	$(Q)$(RUN_TESTS) $(TEST_BESIDE) --alone $(TEST_ALONE)

# ONLY= names the programs to run instead of all. .ci/run has time for the long lists of only two.
ONLY ?=
test-long: tests-built
	$(Q)$(RUN_TESTS) --long $(or $(ONLY),$(TEST_BESIDE) --alone $(TEST_ALONE))

.PHONY: test-engines
test-engines: $(BUILD)/plstm
	$(Q)$(RUN_TESTS) --limit 180 $(TEST_ENGINES)

# Run the same tests under ASan + UBSan, in a build folder of their own; any report ends a test.
sanitize: deps
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)-sanitize OPT=-O1 \
	    SAN='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' sanitize-run
sanitize-run: tests-built
	$(Q)PLSTM=$(BUILD)/plstm ASAN_OPTIONS=detect_stack_use_after_return=0 $(RUN_TESTS) $(TEST_BIN)

# Run the file readers under libFuzzer (clang), one after another, each for its share of FUZZ_SECONDS.
FUZZ_SECONDS ?= 900
FUZZ_FLOORS  := base data store
FUZZERS      := $(patsubst tests/host/%.c,%,$(wildcard tests/host/fuzz_*.c))
FUZZ_SHARE    = $(shell expr $(FUZZ_SECONDS) / $(words $(FUZZERS)) \| 1)
FUZZ_COMMON  := $(foreach floor,$(FUZZ_FLOORS),$(wildcard host/$(floor)/*.c))
fuzz: $(FUZZERS:%=run-%)
.PHONY: $(FUZZERS:%=run-%)
$(FUZZERS:%=run-%): run-%: $(BUILD)/fuzz/%
	@mkdir -p $(BUILD)/fuzz/corpus-$*
	$(Q)$< -max_total_time=$(FUZZ_SHARE) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
	    $(BUILD)/fuzz/corpus-$* $(wildcard tests/fixtures/$*)
$(FUZZERS:%=$(BUILD)/fuzz/%): $(BUILD)/fuzz/%: tests/host/%.c $(FUZZ_COMMON) \
    $(foreach floor,$(FUZZ_FLOORS),$(wildcard host/$(floor)/*.h)) $(BUILD)/gen/flags
	$(call say,FUZZ,$@)
	@mkdir -p $(@D)
	$(Q)clang -std=c11 -O1 -g $(CPPFLAGS) $(WARN) -fsanitize=fuzzer,address,undefined $< $(FUZZ_COMMON) \
	    -ljansson -lmd -lm -o $@
