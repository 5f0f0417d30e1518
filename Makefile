# plstm: one Makefile. `make help` lists what there is to make.
#
#   CUDA=0|1   compile the kernels with nvcc and put the cuda backend into plstm (default: 1 where nvcc is found)
#   EMU=1      put the cuda backend into plstm that runs on the emulated GPU of tests/emu: for tests and for a look, very slow
#   NVCC=      the compiler of CUDA 12 or 13 (default: nvcc on PATH, else /usr/local/cuda/bin/nvcc; an older one is not taken)
#   K20_CUDA=  folder of CUDA 11.8, for `make k20` (default: /usr/local/cuda-11.8, else Debian's package)
#   ARCH=      GPU architectures to compile for (default: sm_90)
#   NVCCFLAGS= more options for nvcc
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
ifeq ($(origin NVCC),undefined)
# Debian's nvcc is 11.8, which `make k20` wants and the program does not.
NVCC := $(shell for n in nvcc /usr/local/cuda/bin/nvcc; do n=$$(command -v $$n) && \
    "$$n" --version 2>/dev/null | grep -Eq 'release (1[2-9]|[2-9][0-9])\.' && echo "$$n" && break; done)
endif
CUDA ?= $(if $(NVCC),1,0)
EMU  ?= 0
ifeq ($(V),0)
Q := @
say = @printf '  %-6s %s\n' '$(1)' '$(2)'
endif

# Debian's default OpenBLAS brings a thread pool of its own that fights OpenMP's: the openmp build is linked by its own path.
OPENBLAS_DIR ?= $(firstword $(dir $(wildcard /usr/lib/*/openblas-openmp/libopenblas.so)))
OPENBLAS_INC ?= $(firstword $(wildcard /usr/include/*/openblas-openmp))

WARN     := -Wall -Wextra
CPPFLAGS += -D_GNU_SOURCE -I. -I$(BUILD)/gen $(addprefix -isystem ,$(OPENBLAS_INC))
CFLAGS   += -std=c11 $(OPT) -g -march=$(MARCH) -fopenmp $(WARN) $(SAN)
CXXFLAGS += -std=c++17 $(OPT) -g -march=$(MARCH) -fopenmp $(WARN) $(SAN)
LDFLAGS  += -fopenmp $(SAN) $(addprefix -L,$(OPENBLAS_DIR)) $(addprefix -Wl$(comma)-rpath$(comma),$(OPENBLAS_DIR:%/=%))
LDLIBS   += -lopenblas -ljansson -lmd -lm
DEPFLAGS  = -MMD -MP
comma := ,

# Tests of what runs on a GPU: see `cuda backend`.
CUDA_TESTS := $(patsubst tests/gpu/%.c,%,$(wildcard tests/gpu/test_*.c))
# What the planner knows of the kernels is C and needs no CUDA: it is linked into every program.
HOST_SRC := $(filter-out host/commands/main.c $(addprefix host/backend/,backend_cuda.c cublas_open.c products.c recurrence.c),$(wildcard host/*/*.c)) kernels/footprints.c
HOST_OBJ := $(HOST_SRC:%.c=$(BUILD)/%.o)
HOST_COMMON := $(filter-out $(BUILD)/host/backend/backend.o $(BUILD)/host/plan/device.o,$(HOST_OBJ)) # the same with and without CUDA
MAIN_OBJ := $(BUILD)/host/commands/main.o
TEST_SRC := $(wildcard tests/host/test_*.c)
TEST_BIN := $(TEST_SRC:tests/host/%.c=$(BUILD)/tests/%)
TEST_HELP := $(BUILD)/tests/support/plain_f32.o
TEST_PY  := $(wildcard tests/*/test_*.py)
PYTHON   ?= python3
RUN_TESTS = NVCC='$(NVCC)' K20_CUDA='$(K20_CUDA)' $(PYTHON) tools/make/run_tests.py -j 2 --build $(BUILD)
# With threads of their own, or clocks to watch: not beside another test.
TEST_ALONE = $(filter %/test_backend_cpu %/test_report %/test_kill.py,$(TEST_BIN) $(TEST_PY))
not_alone = $(filter-out $(TEST_ALONE),$(1))

.PHONY: all help demo parity test test-long bench sanitize fuzz results results-check format format-check clean deps print-config
.DELETE_ON_ERROR:
all: $(BUILD)/plstm print-config

help:
	@printf '%s\n' \
	'make               build $(BUILD)/plstm' \
	'make demo          train one over-large LSTM three ways on the built-in corpus (about 75 s on 2 cores); SEEDS=5 for five seeds' \
	'make parity        what tf32 and bf16, simulated on the CPU, cost in perplexity: paired trainings, SEEDS=20 of them (10 minutes)' \
	'make test          build and run every test; the last line is "N passed, N failed, N skipped"' \
	'make test-long     the lists that are too long for make test' \
	'make bench         CPU step beside PyTorch, emulator speed (Google Benchmark; JSON under $(BUILD)/bench)' \
	'make sanitize      the host and emulator tests again under ASan + UBSan' \
	'make fuzz          the safetensors reader under libFuzzer for FUZZ_SECONDS (300)' \
	'make profile       K=VARIANT H= B= T= or ROW=, [TOOL=ncu|nsys|trace METRICS=fast|roofline|full]: tools/profile.sh --help' \
	'make gpu-bundle    what a machine with a GPU needs to run tools/gpu_run.sh, in $(GPU_BUNDLE)/' \
	'make k20           compile the kernels for a K20 (sm_35) with CUDA 11.8 and examine them, into profiles/k20 (tools/deps.sh k20 installs it)' \
	'make sass          the same for sm_90 with the compiler of the program, into profiles/sm_90' \
	'make results       rebuild RESULTS.md from profiles/; make results-check fails when it is stale' \
	'make predictions   profiles/model/predictions.jsonl anew from plstm plan, and RESULTS.md' \
	'make report        the same as one HTML page, $(BUILD)/report.html: tables that sort and filter, figures inline' \
	'make format        clang-format over the C, C++ and CUDA sources; make format-check fails on a difference' \
	'make clean         remove $(BUILD) and $(BUILD)-sanitize' \
	'Variables: CUDA=0|1 EMU=1 NVCC= ARCH= BUILD= MARCH= CC= CXX= V=1; the first lines of the Makefile say what each does'

print-config:
	@echo "plstm: CUDA=$(CUDA)$(if $(filter 1,$(EMU)), (emulated GPU),$(if $(filter 1,$(CUDA)), ($(NVCC)$(comma) $(ARCH)),: CPU only)) CC=$(CC) MARCH=$(MARCH) -> $(BUILD)/plstm"

# ---- generated: the flags (a change rebuilds), the commit ----

FLAGS_TEXT := $(CC) $(CXX) $(CPPFLAGS) $(CFLAGS) $(CXXFLAGS) $(LDFLAGS) $(LDLIBS) CUDA=$(CUDA) $(NVCC) $(ARCH)$(if $(NVCCFLAGS), $(NVCCFLAGS))
COMMIT_TEXT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || cat COMMIT 2>/dev/null || echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || test ! -d .git || echo -dirty)
$(shell mkdir -p $(BUILD)/gen; \
    [ "$$(cat $(BUILD)/gen/flags 2>/dev/null)" = '$(FLAGS_TEXT)' ] || printf '%s\n' '$(FLAGS_TEXT)' > $(BUILD)/gen/flags; \
    text='#define PLSTM_COMMIT "$(COMMIT_TEXT)"'; \
    [ "$$(cat $(BUILD)/gen/commit.h 2>/dev/null)" = "$$text" ] || printf '%s\n' "$$text" > $(BUILD)/gen/commit.h)

# ---- host ----

# What is linked beside it stands under `cuda backend`.
$(BUILD)/plstm: $(MAIN_OBJ) $(HOST_COMMON)
	$(call say,LINK,$@)
	$(Q)$(CC) $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS) $(PLSTM_LDFLAGS) $(LDLIBS) $(PLSTM_LDLIBS) -o $@

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
# Constants of the planner's model, as a string: the literature's first, then those of every machine that was measured.
CONSTANTS := profiles/model/constants.json $(filter-out profiles/model/%,$(wildcard profiles/*/constants.json))
$(BUILD)/gen/constants_json.h: $(CONSTANTS) Makefile
	@mkdir -p $(@D)
	$(Q){ echo '"["'; for f in $(CONSTANTS); do [ $$f = $(firstword $(CONSTANTS)) ] || echo '","'; \
	    sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' $$f; done; echo '"]"'; } > $@
$(BUILD)/host/plan/plan_model.o: $(BUILD)/gen/constants_json.h

# Fused multiply-adds for the register tiles, and no traps or errno to honour in the cell's loops; sums keep their order.
$(BUILD)/host/backend/tile.o $(BUILD)/host/backend/backend_cpu.o $(BUILD)/tests/host/test_backend_cpu.o: CFLAGS += -ffp-contract=fast -fno-math-errno -fno-trapping-math $(WIDE)

# ---- emulator ----
# tests/emu: a CUDA toolkit for the CPU, built three times from the same sources. In each mode a kernel file, the host file
# that calls it and a test compile by the pattern rules below ($(BUILD)/emu/<mode>/<path without suffix>.o) and link with
# $(BUILD)/emu/<mode>/libemu.a and $(EMU_LDLIBS). tests/emu/README.md tells how to use it.

EMU_MODES := plain asan race
EMU_CLANG := $(findstring clang,$(shell $(CXX) --version 2>/dev/null))
# Kernels never get the host's -march: without fused multiply-adds a result is the same on every machine.
EMU_CPPFLAGS := -D_GNU_SOURCE -Itests/emu/include -Itests/emu -I. $(addprefix -isystem ,$(OPENBLAS_INC))
# Large frames probe each page, so that a stack overflow meets the guard page.
EMU_FLAGS    := -O2 -g $(WARN) -Wno-unknown-pragmas -fstack-clash-protection
EMU_LDLIBS   := $(addprefix -L,$(OPENBLAS_DIR)) $(addprefix -Wl$(comma)-rpath$(comma),$(OPENBLAS_DIR:%/=%)) -lopenblas -lcmocka -ldl -lm
EMU_HOST_asan    := -fsanitize=address,undefined -fno-sanitize-recover=all
EMU_LIB_asan     := $(EMU_HOST_asan)
EMU_LIB_race     := -DEMU_RACE
EMU_KERNEL_asan  := $(EMU_HOST_asan)
EMU_KERNEL_race  := -fsanitize=thread,alignment $(if $(EMU_CLANG),-mllvm -tsan-distinguish-volatile=1 \
    -mllvm -tsan-instrument-func-entry-exit=0,--param tsan-distinguish-volatile=1 --param tsan-instrument-func-entry-exit=0)
EMU_LIB_SRC := $(filter-out tests/emu/test_% %/numerics_oracle.cpp,$(wildcard tests/emu/*.cpp))

define EMU_RULES
$(BUILD)/emu/$(1)/libemu.a: $(EMU_LIB_SRC:tests/emu/%.cpp=$(BUILD)/emu/$(1)/lib/%.o)
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
$(BUILD)/emu/$(1)/lib/%.o: tests/emu/%.cpp $(BUILD)/gen/flags
	$$(call say,EMU,$$< ($(1)))
	@mkdir -p $$(@D)
	$$(Q)$(CXX) -std=c++17 $(EMU_CPPFLAGS) $(EMU_FLAGS) $(EMU_LIB_$(1)) $(DEPFLAGS) -c $$< -o $$@
$(BUILD)/emu/$(1)/%.o: %.cu $(BUILD)/gen/flags
	$$(call say,EMU,$$< ($(1)))
	@mkdir -p $$(@D)
	$$(Q)$(CXX) -std=c++17 $(EMU_CPPFLAGS) $(EMU_FLAGS) $(EMU_KERNEL_$(1)) $$(EMU_OPT) $(DEPFLAGS) -x c++ -c $$< -o $$@
$(BUILD)/emu/$(1)/%.o: %.cpp $(BUILD)/gen/flags
	$$(call say,EMU,$$< ($(1)))
	@mkdir -p $$(@D)
	$$(Q)$(CXX) -std=c++17 $(EMU_CPPFLAGS) $(EMU_FLAGS) $(EMU_HOST_$(1)) $(DEPFLAGS) -c $$< -o $$@
$(BUILD)/emu/$(1)/%.o: %.c $(BUILD)/gen/flags
	$$(call say,EMU,$$< ($(1)))
	@mkdir -p $$(@D)
	$$(Q)$(CC) -std=c11 $(EMU_CPPFLAGS) $(EMU_FLAGS) $(EMU_HOST_$(1)) $(DEPFLAGS) -c $$< -o $$@
# A program of this mode: what it needs beyond its own object stands in EMU_OBJ_<name> below, without mode and suffix.
$(BUILD)/emu/$(1)/test_emu_%: $(BUILD)/emu/$(1)/tests/emu/test_emu_%.o $(BUILD)/emu/$(1)/libemu.a
	$$(call say,LINK,$$@)
	$$(Q)$(CXX) $(EMU_HOST_$(1)) $$(filter %.o,$$^) $$(filter %.a,$$^) $(EMU_LDLIBS) -o $$@
$(BUILD)/emu/$(1)/test_emu_faults: $(addprefix $(BUILD)/emu/$(1)/tests/emu/,faults.o example/recurrence.o)
$(BUILD)/emu/$(1)/test_emu_device: $(BUILD)/emu/$(1)/tests/emu/device_kernels.o
$(BUILD)/emu/$(1)/test_emu_runtime: $(BUILD)/emu/$(1)/tests/emu/device_kernels.o
$(BUILD)/emu/$(1)/test_emu_cublas: $(BUILD)/emu/$(1)/tests/emu/device_kernels.o
$(BUILD)/emu/$(1)/example: $(addprefix $(BUILD)/emu/$(1)/tests/emu/example/,main.o recurrence.o) $(BUILD)/emu/$(1)/libemu.a
	$$(call say,LINK,$$@)
	$$(Q)$(CXX) $(EMU_HOST_$(1)) $$^ $(EMU_LDLIBS) -o $$@
.PRECIOUS: $(BUILD)/emu/$(1)/%.o
endef
$(foreach mode,$(EMU_MODES),$(eval $(call EMU_RULES,$(mode))))

EMU_TEST_ASAN := $(addprefix $(BUILD)/emu/asan/test_emu_,faults runtime device)
EMU_TEST_BIN  := $(EMU_TEST_ASAN)
ifeq ($(SAN),)
EMU_TEST_BIN  := $(addprefix $(BUILD)/emu/plain/test_emu_,faults runtime device cublas numerics build) $(EMU_TEST_BIN) \
    $(addprefix $(BUILD)/emu/race/test_emu_,faults runtime device) $(BUILD)/emu/plain/test_emu_table
endif

# The answers of the real toolkit's headers, where there is one: test_emu_numerics compares with them.
CUDA_HOME ?= $(firstword $(wildcard /usr/local/cuda))
ifneq ($(wildcard $(CUDA_HOME)/include/curand_kernel.h),)
$(BUILD)/emu/plain/test_emu_numerics: | $(BUILD)/emu/numerics_oracle
endif
$(BUILD)/emu/numerics_oracle: tests/emu/numerics_oracle.cpp $(BUILD)/gen/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -O2 -w -isystem $(CUDA_HOME)/include -isystem $(CUDA_HOME)/include/cccl $< -o $@

# Writes the table of tests/emu/README.md anew from what the three builds do; test_emu_table fails when it is stale.
.PHONY: emu-table emu-example bench-emu
emu-table: $(foreach mode,$(EMU_MODES),$(BUILD)/emu/$(mode)/test_emu_faults) $(BUILD)/emu/plain/test_emu_table
	$(Q)PLSTM_BUILD=$(BUILD) $(BUILD)/emu/plain/test_emu_table --write

emu-example: $(foreach mode,$(EMU_MODES),$(BUILD)/emu/$(mode)/example)
	$(Q)for mode in $(EMU_MODES); do printf '%-6s' $$mode; $(BUILD)/emu/$$mode/example || exit 1; done

$(foreach mode,plain race,$(eval $(BUILD)/bench/bench_emu_$(mode): $(BUILD)/emu/$(mode)/bench/bench_emu.o $(BUILD)/emu/$(mode)/tests/emu/bench_kernels.o $(BUILD)/emu/$(mode)/libemu.a))
$(BUILD)/bench/bench_emu_%:
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) $^ $(EMU_LDLIBS) -lbenchmark -o $@
bench-emu: $(BUILD)/bench/bench_emu_plain $(BUILD)/bench/bench_emu_race
	$(Q)for b in $^; do $$b --benchmark_out=$$b.json --benchmark_out_format=json || exit 1; done

# ASan and UBSan make the unrolled kernels ten times as large: optimising one takes a minute, and saves a second of running.
$(patsubst %.cu,$(BUILD)/emu/asan/%.o,$(wildcard kernels/fwd_*.cu kernels/bwd_*.cu)): EMU_OPT = -O0
-include $(wildcard $(BUILD)/emu/*/*/*.d $(BUILD)/emu/*/*/*/*.d $(BUILD)/emu/*/*/*/*/*.d)
# ---- end of emulator ----

# ---- cuda backend ----
# From the same sources: against each mode of the emulator, for tests (the plain one also as a whole program, which EMU=1 makes
# build/plstm), and with nvcc. host/backend/backend.c and host/plan/device.c, which differ with and without CUDA, are compiled once for each.
# The real one starts and answers on machines without a driver: the runtime is linked statically, cuBLAS is opened when it is
# needed, from the program's folder ($$ORIGIN), the toolkit or LD_LIBRARY_PATH.

CUDA_ROOT := $(patsubst %/bin/,%,$(dir $(NVCC)))
CUDA_HOST := backend/backend backend/backend_cuda backend/cublas_open plan/device backend/products backend/recurrence
CUDA_OBJ  := $(CUDA_HOST:%=host/%.o) $(patsubst %.cu,%.o,$(wildcard kernels/*.cu)) \
    $(patsubst %.c,%.o,$(filter-out kernels/footprints.c,$(wildcard kernels/*.c)))
EMU_MODE  := $(if $(SAN),asan,plain)

# NVTX's headers and nothing else of the toolkit, so that no CUDA header is taken for the emulator's.
NVTX_DIR := $(firstword $(wildcard $(CUDA_ROOT)/include/nvtx3 /usr/local/cuda/include/nvtx3 /usr/include/nvtx3))
ifneq ($(NVTX_DIR),)
$(shell mkdir -p $(BUILD)/gen/nvtx && ln -sfn $(NVTX_DIR) $(BUILD)/gen/nvtx/nvtx3)
NVTX_FLAGS := -isystem $(BUILD)/gen/nvtx
endif

CUDA_DEFINES := -DPLSTM_CUDA $(NVTX_FLAGS) -I$(BUILD)/gen
define CUDA_EMU_RULES
$(BUILD)/emu/$(1)/host/%.o: host/%.c $(BUILD)/gen/flags
	$$(call say,EMU,$$< ($(1)))
	@mkdir -p $$(@D)
	$$(Q)$(CC) -std=c11 $(EMU_CPPFLAGS) $(CUDA_DEFINES) $(EMU_FLAGS) $(EMU_HOST_$(1)) $(DEPFLAGS) -c $$< -o $$@
$(CUDA_TESTS:%=$(BUILD)/emu/$(1)/%): $(BUILD)/emu/$(1)/%: $(BUILD)/emu/$(1)/tests/gpu/%.o $(CUDA_OBJ:%=$(BUILD)/emu/$(1)/%) $(HOST_COMMON) $(TEST_HELP) $(BUILD)/emu/$(1)/libemu.a
	$$(call say,LINK,$$@)
	$$(Q)$(CC) $(EMU_HOST_$(1)) $$(filter %.o,$$^) $$(filter %.a,$$^) $(LDFLAGS) $(LDLIBS) -lstdc++ -lcmocka -ldl -o $$@
$(BUILD)/emu/$(1)/plstm: $(MAIN_OBJ) $(HOST_COMMON) $(CUDA_OBJ:%=$(BUILD)/emu/$(1)/%) $(BUILD)/emu/$(1)/libemu.a
	$$(call say,LINK,$$@)
	$$(Q)$(CC) $(EMU_HOST_$(1)) $$(filter %.o,$$^) $$(filter %.a,$$^) $(LDFLAGS) $(LDLIBS) -lstdc++ -ldl -o $$@
.PRECIOUS: $(BUILD)/emu/$(1)/host/%.o
endef
$(foreach mode,$(EMU_MODES),$(eval $(call CUDA_EMU_RULES,$(mode))))
CUDA_TEST_BIN := $(CUDA_TESTS:%=$(BUILD)/emu/$(EMU_MODE)/%) $(if $(SAN),,$(addprefix $(BUILD)/emu/,$(addprefix race/,$(filter test_backend_cuda test_kernels,$(CUDA_TESTS))) asan/test_kernels))
# The tests run the emulated program and, where NVTX is, have its calls recorded.
$(CUDA_TEST_BIN): | $(BUILD)/emu/$(EMU_MODE)/plstm $(if $(NVTX_DIR),$(BUILD)/tests/nvtx_record.so)
$(BUILD)/tests/nvtx_record.so: tests/support/nvtx_record.c $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O1 -g $(WARN) -D_GNU_SOURCE $(NVTX_FLAGS) -fPIC -shared $< -o $@

# With nvcc, by $(call compile_kernel,the compiler and its flags), with more flags in NVCC_EXTRA: each kernel file's registers and
# spills as ptxas reports them, its PTX and its machine code stay beside the object.
define compile_kernel
	@rm -rf $(@:.o=.keep) && mkdir -p $(@:.o=.keep)
	$(Q)$(1) -std=c++17 -O3 -lineinfo -I. -Xcompiler -Wall -Xptxas -v $(NVCC_EXTRA) --keep --keep-dir $(@:.o=.keep) \
	    -MMD -MP -MF $(@:.o=.d) -c $< -o $@ > $(@:.o=.ptxas) 2>&1 || { cat $(@:.o=.ptxas) >&2; exit 1; }
	$(Q)grep -e warning -e error $(@:.o=.ptxas) >&2 || true
	$(Q)cat $(@:.o=.keep)/*.ptx > $(@:.o=.ptx) && mv $$(ls $(@:.o=.keep)/*.cubin | tail -n 1) $(@:.o=.cubin) && rm -r $(@:.o=.keep)
endef
CUDA_ARCHS := $(foreach a,$(subst $(comma), ,$(ARCH)),-gencode arch=$(a:sm_%=compute_%)$(comma)code=$(a))
CUDA_REAL  := $(CUDA_OBJ:%=$(BUILD)/cuda/%)
CUDA_LINK  := -Wl,-rpath,'$$ORIGIN' -L$(CUDA_ROOT)/lib64 -Wl,-rpath,$(CUDA_ROOT)/lib64
CUDA_LIBS  := -lcudart_static -lstdc++ -ldl -lrt -lpthread
$(BUILD)/cuda/%.o: %.cu $(BUILD)/gen/flags
	$(call say,NVCC,$<)
	$(call compile_kernel,$(NVCC) -ccbin $(CXX) $(CUDA_ARCHS) $(NVCCFLAGS))
$(BUILD)/cuda/%.o: %.c $(BUILD)/gen/flags
	$(call say,CC,$< (cuda))
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -isystem $(CUDA_ROOT)/include $(CUDA_DEFINES) $(CFLAGS) $(DEPFLAGS) -c $< -o $@
# The same tests on a real GPU: make cuda-tests, then run $(BUILD)/cuda/test_*.
.PHONY: cuda-tests
cuda-tests: $(CUDA_TESTS:%=$(BUILD)/cuda/%)
$(CUDA_TESTS:%=$(BUILD)/cuda/%): $(BUILD)/cuda/%: $(BUILD)/cuda/tests/gpu/%.o $(CUDA_REAL) $(HOST_COMMON) $(TEST_HELP)
	$(call say,LINK,$@)
	$(Q)$(CC) $(filter %.o,$^) $(LDFLAGS) $(CUDA_LINK) $(LDLIBS) $(CUDA_LIBS) -lcmocka -o $@

# What plstm is linked with; a change of it links anew.
ifeq ($(EMU),1)
PLSTM_WITH := emulated
$(BUILD)/plstm: $(CUDA_OBJ:%=$(BUILD)/emu/$(EMU_MODE)/%) $(BUILD)/emu/$(EMU_MODE)/libemu.a
PLSTM_LDLIBS := -lstdc++ -ldl
else ifeq ($(CUDA),1)
PLSTM_WITH := cuda
$(BUILD)/plstm: $(CUDA_REAL)
PLSTM_LDFLAGS := $(CUDA_LINK)
PLSTM_LDLIBS := $(CUDA_LIBS)
else
PLSTM_WITH := cpu
$(BUILD)/plstm: $(BUILD)/host/backend/backend.o $(BUILD)/host/plan/device.o
endif
$(shell [ "$$(cat $(BUILD)/gen/with 2>/dev/null)" = '$(PLSTM_WITH)' ] || printf '%s\n' '$(PLSTM_WITH)' > $(BUILD)/gen/with)
$(BUILD)/plstm: $(BUILD)/gen/with

-include $(wildcard $(BUILD)/emu/*/host/*/*.d $(BUILD)/cuda/*/*.d $(BUILD)/cuda/*/*/*.d)
# ---- end of cuda backend ----

# ---- gpu bundle ----
# bench_gpu, for the GPU and (tests/gpu/test_bench_gpu.py) for the emulator; and the folder that travels to a machine with a GPU,
# where tools/gpu_run.sh takes everything from it. Its programs are built apart, for sm_90 and a CPU that is not this one; each holds
# every kernel, hence compressed.

GPU_BUNDLE ?= gpu-bundle
GPU_BUILD  ?= build-gpu
# In front of this machine's folders, and for what the libraries need in turn: RPATH, which the newer RUNPATH does not give.
GPU_LDFLAGS := -Wl,--disable-new-dtags -Wl,-rpath,\$$$$ORIGIN/../lib $(addprefix -L,$(OPENBLAS_DIR))

BENCH_GPU := $(addprefix bench/,bench_gpu.o gpu.o gpu_recurrence.o gpu_whole.o gpu_cudnn.o gpu_tuned.o gpu_layers.o gpu_step.o gpu_constants.o constants.o \
    tuned_fwd.o tuned_bwd.o cudnn_api.o axes.o measure.o roofs.o)
# ptxas advises to compile multicast for sm_90a; it measures what a program for sm_90 gets.
$(BUILD)/cuda/bench/constants.o: NVCC_EXTRA := -Xptxas --suppress-async-bulk-multicast-advisory-warning
BENCH_DEFINES := -DPLSTM_FLAGS='"nvcc -std=c++17 -O3 -lineinfo $(CUDA_ARCHS) $(NVCCFLAGS)"'
$(BUILD)/cuda/bench/%.o: bench/%.cpp $(BUILD)/gen/flags
	$(call say,CXX,$< (cuda))
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(BENCH_DEFINES) -isystem $(CUDA_ROOT)/include $(CXXFLAGS) $(DEPFLAGS) -c $< -o $@
$(BUILD)/cuda/bench_gpu: $(BENCH_GPU:%=$(BUILD)/cuda/%) $(CUDA_REAL) $(HOST_COMMON)
	$(call say,LINK,$@)
	$(Q)$(CXX) $^ $(LDFLAGS) $(CUDA_LINK) $(LDLIBS) -lbenchmark $(CUDA_LIBS) -o $@
$(patsubst %.o,$(BUILD)/emu/plain/%.o,$(filter-out bench/constants.o bench/tuned_%.o,$(BENCH_GPU))): $(BUILD)/emu/plain/%.o: %.cpp $(BUILD)/gen/flags
	$(call say,EMU,$< (plain))
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -fopenmp $(EMU_CPPFLAGS) $(CUDA_DEFINES) $(EMU_FLAGS) $(DEPFLAGS) -c $< -o $@
# -rdynamic: a library that it opens may call the emulated runtime.
$(BUILD)/emu/plain/bench_gpu: $(BENCH_GPU:%=$(BUILD)/emu/plain/%) $(CUDA_OBJ:%=$(BUILD)/emu/plain/%) $(HOST_COMMON) $(BUILD)/emu/plain/libemu.a
	$(call say,LINK,$@)
	$(Q)$(CXX) -rdynamic $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS) $(LDLIBS) -lbenchmark -ldl -o $@

# Records ranges and, through CUPTI, kernels where there is no Nsight Systems (tools/profile.sh). Its test brings a CUPTI of its own.
CUPTI_FLAGS := $(if $(wildcard $(CUDA_ROOT)/include/cupti.h),-isystem $(CUDA_ROOT)/include)
$(BUILD)/lib/libnvtx_trace.so: tools/gpu/nvtx_trace.c $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O2 -g $(WARN) -D_GNU_SOURCE $(CUPTI_FLAGS) $(NVTX_FLAGS) -fPIC -shared $< \
	    -Wl,-rpath,'$$ORIGIN' $(if $(CUPTI_FLAGS),-Wl$(comma)-rpath$(comma)$(CUDA_ROOT)/lib64) -o $@ -ldl
$(BUILD)/tests/fake_cupti.so: tests/support/fake_cupti.c $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O1 -g $(WARN) $(CUPTI_FLAGS) -fPIC -shared $< -o $@
ifneq ($(NVTX_DIR),)
tests-built gpu-bundle-built: $(BUILD)/lib/libnvtx_trace.so $(if $(CUPTI_FLAGS),$(BUILD)/tests/fake_cupti.so)
endif

.PHONY: profile
profile: all $(if $(ROW),$(BUILD)/cuda/bench_gpu) $(if $(NVTX_DIR),$(BUILD)/lib/libnvtx_trace.so)
	$(Q)tools/profile.sh BUILD=$(BUILD) $(foreach name,K H B T ROW TOOL METRICS RANGE PRECISION KEEP LAUNCHES STEPS OUT PLSTM,'$(name)=$($(name))')

# Loaded into GPU tests to count what they launch.
$(BUILD)/lib/liblaunch_count.so: tests/support/launch_count.c $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O2 $(WARN) -fPIC -shared -isystem $(CUDA_ROOT)/include $< -L$(CUDA_ROOT)/lib64 -Wl,-rpath,'$$ORIGIN' -lcupti -o $@

# For tests/gpu/test_bench_gpu.py: the same with a variant more, which is wrong; for tests/gpu/test_cudnn.py: a library that stands in for cuDNN.
$(BUILD)/emu/plain/bench_gpu_wrong: $(BENCH_GPU:%=$(BUILD)/emu/plain/%) $(BUILD)/emu/plain/tests/support/wrong_variants.o \
    $(patsubst %,$(BUILD)/emu/plain/%,$(filter-out kernels/variants.o,$(CUDA_OBJ))) $(HOST_COMMON) $(BUILD)/emu/plain/libemu.a
	$(call say,LINK,$@)
	$(Q)$(CXX) $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS) $(LDLIBS) -lbenchmark -ldl -o $@
$(BUILD)/tests/libfake_cudnn.so: tests/support/fake_cudnn.cpp $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -fopenmp $(EMU_CPPFLAGS) $(EMU_FLAGS) $(DEPFLAGS) -fPIC -shared $< -o $@

ifeq ($(SAN),)
tests-built: $(addprefix $(BUILD)/,emu/plain/bench_gpu emu/plain/bench_gpu_wrong tests/libfake_cudnn.so)
endif

.PHONY: gpu-bundle gpu-bundle-built gpu-bundle-size
gpu-bundle:
	$(Q)LDFLAGS='$(GPU_LDFLAGS)' $(MAKE) --no-print-directory BUILD=$(GPU_BUILD) MARCH=x86-64-v3 ARCH=sm_90 NVCCFLAGS=-compress-mode=size CUDA=1 EMU=0 OPENBLAS_DIR= gpu-bundle-built
	$(Q)LD_LIBRARY_PATH=$(OPENBLAS_DIR) CUPTI=$(firstword $(wildcard $(CUDA_ROOT)/lib64/libcupti.so.??)) \
	    tools/gpu/bundle.sh $(GPU_BUILD) $(GPU_BUNDLE) '$(COMMIT_TEXT)'
gpu-bundle-built: $(BUILD)/plstm $(BUILD)/cuda/bench_gpu $(BUILD)/lib/liblaunch_count.so cuda-tests $(if $(NVTX_DIR),$(BUILD)/tests/nvtx_record.so)
gpu-bundle-size:
	$(Q)tools/gpu/bundle.sh --size $(GPU_BUNDLE)

-include $(wildcard $(BUILD)/cuda/bench/*.d)
# ---- end of gpu bundle ----

# ---- machine code ----
# What compilers make of the kernels, examined by tools/examine/examine.py and filed under profiles/: for a K20 with CUDA 11.8, the last
# toolkit that knows sm_35; for sm_90 with the compiler of the program. Where that one's toolkit has no disassembler, the one of 11.8 shows
# what 11.8 makes for sm_90, since it cannot read CUDA 13's files.

K20_CUDA  ?= $(firstword $(patsubst %/bin/nvcc,%,$(wildcard /usr/local/cuda-11.8/bin/nvcc)) \
    $(if $(wildcard /usr/lib/nvidia-cuda-toolkit/bin/nvcc),/usr))
K20_CXX   ?= g++-11
K20_NVCC  := $(wildcard $(addsuffix /bin/nvcc,$(K20_CUDA)))
K20_DIR   := $(BUILD)/sm_35
OTHER_DIR := $(BUILD)/sm_90-by-11.8
# 11.8's folder comes first on PATH, else it takes the other toolkit's ptxas. Debian's headers lie in /usr/include, behind
# /usr/local/include, where others' may be: a folder of their own comes before both.
K20_COMPILE = PATH=$(K20_CUDA)/bin:$$PATH $(K20_NVCC) -ccbin $(K20_CXX) $(if $(filter /usr,$(K20_CUDA)),-isystem $(K20_DIR)/include) \
    -Wno-deprecated-gpu-targets
K20_FILES := $(filter-out %_mma.cu %_cluster.cu %_wavefront.cu,$(wildcard kernels/*.cu))
$(K20_DIR)/include:
	@rm -rf $@.tmp && mkdir -p $@.tmp && cd $@.tmp && dpkg -L nvidia-cuda-dev | sed -n '/^\/usr\/include\/[^/]*$$/p' | xargs ln -s -t . && mv ../$(@F).tmp ../$(@F)
$(K20_DIR)/%.o: %.cu $(BUILD)/gen/flags | $(if $(filter /usr,$(K20_CUDA)),$(K20_DIR)/include)
	$(call say,NVCC,$< (sm_35))
	$(call compile_kernel,$(K20_COMPILE) -gencode arch=compute_35$(comma)code=sm_35)
$(OTHER_DIR)/%.o: %.cu $(BUILD)/gen/flags | $(if $(filter /usr,$(K20_CUDA)),$(K20_DIR)/include)
	$(call say,NVCC,$< (sm_90 by 11.8))
	$(call compile_kernel,$(K20_COMPILE) -gencode arch=compute_90$(comma)code=sm_90)

# The disassembler of the program's toolkit, or else of 11.8 with that compiler's build.
OWN_NVDISASM := $(firstword $(wildcard $(CUDA_ROOT)/bin/nvdisasm))
# 11.8 does not assemble st.async.
SASS_LISTED  := $(if $(OWN_NVDISASM),,$(patsubst %.cu,$(OTHER_DIR)/%.o,$(filter-out %_cluster.cu,$(wildcard kernels/*.cu))))

.PHONY: k20 sass
k20: $(if $(K20_NVCC),$(BUILD)/plstm $(K20_FILES:%.cu=$(K20_DIR)/%.o))
	@[ -n '$(K20_NVCC)' ] || \
	    { echo 'make k20 needs CUDA 11.8: tools/deps.sh k20 installs it where Debian has it; or give K20_CUDA=DIR' >&2; exit 1; }
	$(Q)$(PYTHON) tools/examine/examine.py k20 --built $(K20_DIR)/kernels --nvcc $(K20_NVCC) --nvdisasm $(K20_CUDA)/bin/nvdisasm \
	    --plan $(BUILD)/plstm --out profiles/k20/machine-code.json
sass: $(if $(NVCC),$(patsubst %.cu,$(BUILD)/cuda/%.o,$(wildcard kernels/*.cu)) $(if $(K20_NVCC),$(SASS_LISTED)))
	@[ -n '$(NVCC)' ] || { echo 'make sass needs the nvcc of CUDA 12 or 13' >&2; exit 1; }
	@[ -n '$(OWN_NVDISASM)$(K20_NVCC)' ] || \
	    { echo 'make sass needs a disassembler: nvdisasm beside nvcc, or the one of CUDA 11.8 (tools/deps.sh k20)' >&2; exit 1; }
	$(Q)$(PYTHON) tools/examine/examine.py sass --built $(BUILD)/cuda/kernels --nvcc $(NVCC) --out profiles/sm_90/machine-code.json \
	    $(if $(OWN_NVDISASM),--nvdisasm $(OWN_NVDISASM),--listed $(OTHER_DIR)/kernels --listed-nvcc $(K20_NVCC) \
	    --nvdisasm $(K20_CUDA)/bin/nvdisasm)

-include $(wildcard $(K20_DIR)/kernels/*.d $(OTHER_DIR)/kernels/*.d)
# ---- end of machine code ----

# ---- tests ----

$(TEST_BIN): $(BUILD)/tests/%: $(BUILD)/tests/host/%.o $(TEST_HELP) $(HOST_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $^ $(LDFLAGS) $(LDLIBS) -lcmocka -o $@

# The decisions of the benchmarks (C++, as they are), without what they decide over.
BENCH_TEST_BIN := $(addprefix $(BUILD)/tests/test_,measure axes roofs)
$(BENCH_TEST_BIN): $(BUILD)/tests/test_%: $(BUILD)/tests/gpu/test_%.o $(BUILD)/bench/%.o
	$(call say,LINK,$@)
	$(Q)$(CXX) $^ $(LDFLAGS) -lcmocka -ljansson -lm -o $@
TEST_BIN += $(BENCH_TEST_BIN)

deps:
	@tools/deps.sh

test: deps
	$(Q)$(MAKE) --no-print-directory tests-built
	$(Q)$(RUN_TESTS) $(call not_alone,$(TEST_BIN) $(EMU_TEST_BIN) $(CUDA_TEST_BIN) $(TEST_PY)) --alone $(TEST_ALONE)

.PHONY: tests-built
tests-built: all $(TEST_BIN) $(EMU_TEST_BIN) $(CUDA_TEST_BIN)

test-long: tests-built
	$(Q)$(RUN_TESTS) --long $(call not_alone,$(TEST_BIN) $(EMU_TEST_BIN) $(CUDA_TEST_BIN) $(TEST_PY)) --alone $(TEST_ALONE)

# The same tests under ASan + UBSan, in a folder of their own; any report ends a test.
sanitize: deps
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)-sanitize OPT=-O1 \
	    SAN='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' sanitize-run

.PHONY: sanitize-run
sanitize-run: tests-built
	$(Q)PLSTM=$(BUILD)/plstm ASAN_OPTIONS=detect_stack_use_after_return=0 $(RUN_TESTS) $(TEST_BIN) $(EMU_TEST_BIN) $(CUDA_TEST_BIN)

# ---- libFuzzer over the safetensors reader (clang) ----

FUZZ_SECONDS ?= 300
fuzz: $(BUILD)/fuzz/fuzz_safetensors
	@mkdir -p $(BUILD)/fuzz/corpus
	$(Q)$< -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 $(BUILD)/fuzz/corpus $(wildcard tests/fixtures/fuzz)

FUZZ_SRC := tests/host/fuzz_safetensors.c $(wildcard host/store/*.c host/data/*.c) $(addprefix host/base/,settings.c number.c error.c)
$(BUILD)/fuzz/fuzz_safetensors: $(FUZZ_SRC) $(wildcard host/*/*.h) $(BUILD)/gen/flags
	$(call say,FUZZ,$@)
	@mkdir -p $(@D)
	$(Q)clang -std=c11 -O1 -g $(CPPFLAGS) $(WARN) -fsanitize=fuzzer,address,undefined $(FUZZ_SRC) -ljansson -lmd -lm -o $@

# ---- the main jobs ----

SEEDS ?= 1
demo: deps
	$(Q)$(MAKE) --no-print-directory all
	$(Q)$(PYTHON) tools/demo.py --plstm $(BUILD)/plstm --out $(BUILD)/demo --seeds $(SEEDS)

parity: deps
	$(Q)$(MAKE) --no-print-directory $(BUILD)/plstm
	$(Q)$(PYTHON) tools/parity.py --plstm $(BUILD)/plstm --out $(BUILD)/parity --seeds $(if $(filter file,$(origin SEEDS)),20,$(SEEDS))

bench: deps
	$(Q)$(MAKE) --no-print-directory bench-run

.PHONY: bench-run
bench-run: all $(BUILD)/bench/bench_cpu bench-emu
	$(Q)$(PYTHON) tools/bench_cpu.py --bench $(BUILD)/bench/bench_cpu --out $(BUILD)/bench

$(BUILD)/bench/bench_cpu: $(BUILD)/bench/bench_cpu.o $(HOST_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CXX) $^ $(LDFLAGS) $(LDLIBS) -lbenchmark -o $@

results:
	$(Q)$(PYTHON) tools/results.py
results-check:
	$(Q)$(PYTHON) tools/results.py --check
.PHONY: report predictions
# Of the planner's model, for the table of variants: what a later measurement will stand beside.
predictions: all
	$(Q)$(BUILD)/plstm plan --json --quiet --device H200 --precision all > profiles/model/predictions.jsonl.tmp
	$(Q)mv profiles/model/predictions.jsonl.tmp profiles/model/predictions.jsonl
	$(Q)$(MAKE) --no-print-directory results
report:
	$(Q)mkdir -p $(BUILD) && $(PYTHON) tools/results.py --html $(BUILD)/report.html && echo $(BUILD)/report.html

FORMAT_SRC = $(wildcard host/*/*.[ch] kernels/*.h kernels/*.cuh kernels/*.cu tests/*/*.[ch] tests/*/*.cpp bench/*.cpp bench/*.h bench/*.cu tools/*/*.c)
format:
	$(Q)clang-format -i $(FORMAT_SRC)
format-check:
	$(Q)clang-format --dry-run -Werror $(FORMAT_SRC)

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize

-include $(patsubst %.o,%.d,$(HOST_OBJ) $(MAIN_OBJ) $(TEST_HELP)) $(wildcard $(BUILD)/tests/*/*.d $(BUILD)/bench/*.d)
