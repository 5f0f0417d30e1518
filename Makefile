# plstm: one Makefile. `make help` lists what there is to make.
#
#   CUDA=0|1   compile the kernels with nvcc (default: 1 where nvcc is found)
#   NVCC=      the compiler of CUDA 13 (default: nvcc on PATH, else /usr/local/cuda/bin/nvcc)
#   ARCH=      GPU architectures to compile for (default: sm_90)
#   BUILD=     folder of everything that is made (default: build)
#   MARCH=     CPU that the host code is compiled for (default: native; x86-64-v3 for a program that travels)
#   CC= CXX=   gcc and g++, or clang
#   V=1        print whole commands

BUILD ?= build
MARCH ?= native
ARCH  ?= sm_90
OPT   ?= -O3
SAN   ?=
V     ?= 0

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA ?= $(if $(NVCC),1,0)
ifeq ($(V),0)
Q := @
say = @printf '  %-6s %s\n' '$(1)' '$(2)'
endif

# Debian's default OpenBLAS brings a thread pool of its own that fights OpenMP's: the openmp build is linked by its own path.
OPENBLAS_DIR ?= $(firstword $(dir $(wildcard /usr/lib/*/openblas-openmp/libopenblas.so)))
OPENBLAS_INC ?= $(firstword $(wildcard /usr/include/*/openblas-openmp))

WARN     := -Wall -Wextra
CPPFLAGS += -D_GNU_SOURCE -I$(BUILD)/gen $(addprefix -isystem ,$(OPENBLAS_INC))
CFLAGS   += -std=c11 $(OPT) -g -march=$(MARCH) -fopenmp $(WARN) $(SAN)
CXXFLAGS += -std=c++17 $(OPT) -g -march=$(MARCH) -fopenmp $(WARN) $(SAN)
LDFLAGS  += -fopenmp $(SAN) $(addprefix -L,$(OPENBLAS_DIR)) $(addprefix -Wl$(comma)-rpath$(comma),$(OPENBLAS_DIR:%/=%))
LDLIBS   += -lopenblas -ljansson -lmd -lm
DEPFLAGS  = -MMD -MP
comma := ,

HOST_SRC := $(filter-out host/main.c,$(wildcard host/*.c))
HOST_OBJ := $(HOST_SRC:%.c=$(BUILD)/%.o)
MAIN_OBJ := $(BUILD)/host/main.o
TEST_SRC := $(filter-out tests/test_emu_%,$(wildcard tests/test_*.c))
TEST_BIN := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
TEST_HELP := $(BUILD)/tests/plain_f32.o
TEST_PY  := $(wildcard tests/test_*.py)
PYTHON   ?= python3
RUN_TESTS = $(PYTHON) tools/run_tests.py

.PHONY: all help demo test test-long bench sanitize fuzz results results-check format format-check clean deps print-config
.DELETE_ON_ERROR:
all: $(BUILD)/plstm print-config

help:
	@printf '%s\n' \
	'make               build $(BUILD)/plstm' \
	'make demo          train one over-large LSTM three ways on the built-in corpus (about 100 s on 2 cores); SEEDS=5 for five seeds' \
	'make test          build and run every test; the last line is "N passed, N failed, N skipped"' \
	'make test-long     the lists that are too long for make test' \
	'make bench         CPU step beside PyTorch, emulator speed (Google Benchmark; JSON under $(BUILD)/bench)' \
	'make sanitize      the host and emulator tests again under ASan + UBSan' \
	'make fuzz          the safetensors reader under libFuzzer for FUZZ_SECONDS (300)' \
	'make results       rebuild RESULTS.md from profiles/; make results-check fails when it is stale' \
	'make format        clang-format over the C, C++ and CUDA sources; make format-check fails on a difference' \
	'make clean         remove $(BUILD) and $(BUILD)-sanitize' \
	'Variables: CUDA=0|1 NVCC= ARCH= BUILD= MARCH= CC= CXX= V=1; the first lines of the Makefile say what each does'

print-config:
	@echo "plstm: CUDA=$(CUDA)$(if $(filter 1,$(CUDA)), ($(NVCC)$(comma) $(ARCH)),: CPU only) CC=$(CC) MARCH=$(MARCH) -> $(BUILD)/plstm"

# ---- generated: the flags (a change rebuilds), the commit ----

FLAGS_TEXT := $(CC) $(CXX) $(CPPFLAGS) $(CFLAGS) $(CXXFLAGS) $(LDFLAGS) $(LDLIBS) CUDA=$(CUDA) $(NVCC) $(ARCH)
COMMIT_TEXT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || cat COMMIT 2>/dev/null || echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || test ! -d .git || echo -dirty)
$(shell mkdir -p $(BUILD)/gen; \
    [ "$$(cat $(BUILD)/gen/flags 2>/dev/null)" = '$(FLAGS_TEXT)' ] || printf '%s\n' '$(FLAGS_TEXT)' > $(BUILD)/gen/flags; \
    text='#define PLSTM_COMMIT "$(COMMIT_TEXT)"'; \
    [ "$$(cat $(BUILD)/gen/commit.h 2>/dev/null)" = "$$text" ] || printf '%s\n' "$$text" > $(BUILD)/gen/commit.h)

# ---- host ----

$(BUILD)/plstm: $(MAIN_OBJ) $(HOST_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(LDFLAGS) $(LDLIBS) -o $@

$(BUILD)/%.o: %.c $(BUILD)/gen/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(DEPFLAGS) -c $< -o $@

$(BUILD)/%.o: %.cpp $(BUILD)/gen/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) $(DEPFLAGS) -c $< -o $@

# Whole 512-bit registers where the CPU has them: gcc's default for some CPUs is half.
WIDE := $(shell $(CC) -mprefer-vector-width=512 -E -x c /dev/null >/dev/null 2>&1 && echo -mprefer-vector-width=512)
# Fused multiply-adds for the register tiles, and no traps or errno to honour in the cell's loops; sums keep their order.
$(BUILD)/host/backend_cpu.o $(BUILD)/tests/test_backend_cpu.o: CFLAGS += -ffp-contract=fast -fno-math-errno -fno-trapping-math $(WIDE)

# ---- tests ----

$(TEST_BIN): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_HELP) $(HOST_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(LDFLAGS) $(LDLIBS) -lcmocka -o $@

deps:
	@tools/deps.sh

test: deps
	$(Q)$(MAKE) --no-print-directory tests-built
	$(Q)$(MAKE) --no-print-directory results-check
	$(Q)$(RUN_TESTS) --build $(BUILD) $(TEST_BIN) $(EMU_TEST_BIN) $(TEST_PY)

.PHONY: tests-built
tests-built: all $(TEST_BIN) $(EMU_TEST_BIN)

test-long: tests-built
	$(Q)$(RUN_TESTS) --build $(BUILD) --long $(TEST_BIN) $(EMU_TEST_BIN) $(TEST_PY)

# The same tests under ASan + UBSan, in a folder of their own; any report ends a test.
sanitize: deps
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)-sanitize OPT=-O1 \
	    SAN='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' sanitize-run

.PHONY: sanitize-run
sanitize-run: tests-built
	$(Q)PLSTM=$(BUILD)/plstm ASAN_OPTIONS=detect_stack_use_after_return=0 $(RUN_TESTS) --build $(BUILD) $(TEST_BIN) $(EMU_TEST_BIN)

# ---- libFuzzer over the safetensors reader (clang) ----

FUZZ_SECONDS ?= 300
fuzz: $(BUILD)/fuzz/fuzz_safetensors
	@mkdir -p $(BUILD)/fuzz/corpus
	$(Q)$< -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 $(BUILD)/fuzz/corpus $(wildcard tests/fixtures/fuzz)

FUZZ_SRC := tests/fuzz_safetensors.c $(addprefix host/,safetensors.c checkpoint.c settings.c params.c corpus.c synthetic.c error.c)
$(BUILD)/fuzz/fuzz_safetensors: $(FUZZ_SRC) $(wildcard host/*.h) $(BUILD)/gen/flags
	$(call say,FUZZ,$@)
	@mkdir -p $(@D)
	$(Q)clang -std=c11 -O1 -g $(CPPFLAGS) $(WARN) -fsanitize=fuzzer,address,undefined $(FUZZ_SRC) -ljansson -lmd -lm -o $@

# ---- the main jobs ----

SEEDS ?= 1
demo: deps
	$(Q)$(MAKE) --no-print-directory all
	$(Q)$(PYTHON) tools/demo.py --plstm $(BUILD)/plstm --out $(BUILD)/demo --seeds $(SEEDS)

bench: deps
	$(Q)$(MAKE) --no-print-directory bench-run

.PHONY: bench-run
bench-run: all $(BUILD)/bench/bench_cpu
	$(Q)$(PYTHON) tools/bench_cpu.py --bench $(BUILD)/bench/bench_cpu --out $(BUILD)/bench

$(BUILD)/bench/bench_cpu: $(BUILD)/bench/bench_cpu.o $(HOST_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CXX) $^ $(LDFLAGS) $(LDLIBS) -lbenchmark -o $@

results:
	$(Q)$(PYTHON) tools/results.py
results-check:
	$(Q)$(PYTHON) tools/results.py --check

FORMAT_SRC = $(wildcard host/*.[ch] kernels/*.h kernels/*.cuh kernels/*.cu tests/*.[ch] tests/*.cpp tests/emu/*.h tests/emu/*.cpp bench/*.cpp)
format:
	$(Q)clang-format -i $(FORMAT_SRC)
format-check:
	$(Q)clang-format --dry-run -Werror $(FORMAT_SRC)

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize

-include $(patsubst %.o,%.d,$(HOST_OBJ) $(MAIN_OBJ)) $(TEST_BIN:=.d) $(BUILD)/bench/bench_cpu.d
