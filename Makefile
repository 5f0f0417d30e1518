# plstm. `make help` lists the targets; the parts of this Makefile are tools/make/*.mk.
#
#   CUDA=0|1   compile the kernels with nvcc and build plstm with the cuda backend (default: 1 if nvcc is found)
#   EMU=1      build plstm with the cuda backend on the emulated GPU of tests/emu: to try it out, very slow
#   NVCC=      the compiler of CUDA 12 or 13 (default: nvcc on PATH, else /usr/local/cuda/bin/nvcc; older versions are
#              ignored)
#   K20_CUDA=  the folder of CUDA 11.8, for `make k20` (default: /usr/local/cuda-11.8, else Debian's package)
#   ARCH=      the GPU architectures to compile for (default: sm_90)
#   NVCCFLAGS= more options for nvcc
#   BUILD=     the folder of all outputs (default: build)
#   MARCH=     the CPU for which the host code is compiled (default: native; x86-64-v3 for a portable program)
#   BLAS=      own (default), openblas or blis (libblis-openmp-dev): computes the large products of the cpu backend
#   CC= CXX=   gcc and g++, or clang
#   PEER=pypi  compare `make bench` with PyPI's newest PyTorch, in a virtual environment under BUILD (6 GB), instead of
#              the first PyTorch found here; PEER_PYTHON= names a Python that already has one
#   V=1        print whole commands

BUILD ?= build
MARCH ?= native
BLAS  ?= own
ARCH  ?= sm_90
OPT   ?= -O3
SAN   ?=
V     ?= 0
PYTHON ?= python3

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
ifeq ($(origin NVCC),undefined)
# Debian's nvcc is 11.8, which `make k20` needs and which cannot compile the program.
NVCC := $(shell for n in nvcc /usr/local/cuda/bin/nvcc; do n=$$(command -v $$n) && \
    "$$n" --version 2>/dev/null | grep -Eq 'release (1[2-9]|[2-9][0-9])\.' && echo "$$n" && break; done)
endif
CUDA ?= $(if $(NVCC),1,0)
EMU  ?= 0
ifneq ($(words $(filter 0 1,$(CUDA)) $(filter 0 1,$(EMU))),2)
$(error CUDA and EMU take 0 or 1, not CUDA='$(CUDA)' EMU='$(EMU)')
endif
# Use all cores, unless the command line has its own -j.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
ifeq ($(V),0)
Q := @
say = @printf '  %-6s %s\n' '$(1)' '$(2)'
endif
comma := ,

# Debian's default OpenBLAS has a thread pool that competes with OpenMP's, so the openmp build is linked by its path.
OPENBLAS_DIR ?= $(firstword $(dir $(wildcard /usr/lib/*/openblas-openmp/libopenblas.so)))
OPENBLAS_INC ?= $(firstword $(wildcard /usr/include/*/openblas-openmp))
OPENBLAS_LD  := $(addprefix -L,$(OPENBLAS_DIR)) $(addprefix -Wl$(comma)-rpath$(comma),$(OPENBLAS_DIR:%/=%))

WARN     := -Wall -Wextra
CPPFLAGS += -D_GNU_SOURCE -I. -I$(BUILD)/gen $(addprefix -isystem ,$(OPENBLAS_INC))
CFLAGS   += -std=c11 $(OPT) -g -march=$(MARCH) -fopenmp $(WARN) $(SAN)
CXXFLAGS += -std=c++17 $(OPT) -g -march=$(MARCH) -fopenmp $(WARN) $(SAN)
LDFLAGS  += -fopenmp $(SAN) $(OPENBLAS_LD)
include tools/make/blas.mk
DEPFLAGS  = -MMD -MP

.PHONY: all help demo demo-translate demo-speech demo-caption parity test test-long bench sanitize fuzz
.PHONY: results results-check report
.PHONY: format format-check clean deps print-config
.DELETE_ON_ERROR:
all: $(BUILD)/plstm print-config

help:
	@printf '%s\n' \
	'make               build $(BUILD)/plstm' \
	'make demo          train one over-large LSTM with three kinds of dropout (75 s); SEEDS=5 for five seeds' \
	'make demo-translate  train a translation model without and with dropout, and translate (1 to 3 minutes)' \
	'make demo-speech   train a speech model without and with dropout (under 3 minutes)' \
	'make demo-caption  train a caption model without and with dropout, with a page of pictures (under 3 minutes)' \
	'make parity        measure the cost of tf32 and bf16 in perplexity: SEEDS=20 paired trainings (10 min)' \
	'make test          build and run every test; the last line is "N passed, N failed, N skipped"' \
	'make test-long     run the lists that are too long for make test (ONLY=PROGRAMS: of these)' \
	'make test-engines  test tools/engines under Slurm, GNU parallel and mpirun (tools/deps.sh engines)' \
	'make bench         time a CPU step beside PyTorch, and the emulator (JSON under $(BUILD)/bench)' \
	'make sanitize      run the host and emulator tests under ASan + UBSan' \
	'make fuzz          run the file readers under libFuzzer, for FUZZ_SECONDS in all (900)' \
	'make profile       profile K=VARIANT H= B= T= or ROW=, [TOOL=ncu|nsys|trace METRICS=fast|roofline|full]:' \
	'                   tools/profile.sh --help' \
	'make gpu-bundle    pack what a machine with a GPU needs to run tools/gpu_run.sh, in $(GPU_BUNDLE)/' \
	'make rehearse      run tools/gpu_run.sh on the emulated GPU at tiny shapes, and show its rows of RESULTS.md' \
	'make k20           compile the kernels for a K20 (sm_35) with CUDA 11.8 and examine them, into profiles/k20' \
	'                   (tools/deps.sh k20 installs CUDA 11.8)' \
	'make sass          do the same for sm_90 with the compiler of the program, into profiles/sm_90' \
	'make k20-sim       run the sm_35 kernels in GPGPUSIM=DIR, your own build of GPGPU-Sim, into profiles/k20-sim' \
	'make results       rebuild RESULTS.md from profiles/; make results-check fails if it is stale' \
	'make refresh       rebuild what a new variant or tile makes stale: predictions (plstm plan), RESULTS.md and,' \
	'                   with nvcc, the registers of the kernels (kernels/ptxas_sm90.txt)' \
	'make report        write RESULTS.md as an HTML page, $(BUILD)/report.html, with tables that sort and filter' \
	'make format        run clang-format over the C, C++ and CUDA sources; make format-check checks them' \
	'make clean         remove $(BUILD) and $(BUILD)-sanitize' \
	'Variables: CUDA=0|1 EMU=1 NVCC= ARCH= BUILD= MARCH= CC= CXX= V=1; the first lines of the Makefile explain each'

CUDA_SAYS = $(if $(filter 1,$(EMU)), (emulated GPU),$(if $(filter 1,$(CUDA)), ($(NVCC)$(comma) $(ARCH)),: CPU only))
print-config:
	@echo "plstm: CUDA=$(CUDA)$(CUDA_SAYS) CC=$(CC) MARCH=$(MARCH) -> $(BUILD)/plstm"

# ---- generated files: the flags (a change rebuilds everything) and the commit ----

FLAGS_TEXT := $(CC) $(CXX) $(CPPFLAGS) $(CFLAGS) $(CXXFLAGS) $(LDFLAGS) $(LDLIBS) \
    CUDA=$(CUDA) $(NVCC) $(ARCH)$(if $(NVCCFLAGS), $(NVCCFLAGS))
COMMIT_TEXT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || cat COMMIT 2>/dev/null || \
    echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || test ! -d .git || echo -dirty)
# $(call refresh,FILE,TEXT) writes FILE only if its text differs.
define refresh
$(shell mkdir -p $(dir $(1)); \
    [ "$$(cat $(1) 2>/dev/null)" = '$(2)' ] || printf '%s\n' '$(2)' > $(1))
endef
$(call refresh,$(BUILD)/gen/flags,$(FLAGS_TEXT))
$(call refresh,$(BUILD)/gen/commit.h,#define PLSTM_COMMIT "$(COMMIT_TEXT)")

# ---- host: one folder per layer; an #include points down this list or to kernels/ ----

FLOORS := base data store plan backend train train/tasks commands
# Files that are compiled twice, for programs without and with CUDA, and files that only programs with CUDA contain.
HOST_TWICE := host/plan/device host/backend/backends
HOST_CUDA  := host/plan/cuda_check $(addprefix host/backend/,backend_cuda cublas_check cublas_open gemm recurrence)
MAIN       := host/commands/main
# The planner's table of kernels is C and needs no CUDA, so it is linked into every program.
FOOTPRINTS := kernels/footprints

HOST        := $(basename $(foreach floor,$(FLOORS),$(wildcard host/$(floor)/*.c)))
HOST_COMMON := $(patsubst %,$(BUILD)/%.o,$(filter-out $(HOST_TWICE) $(HOST_CUDA) $(MAIN),$(HOST)) $(FOOTPRINTS))
HOST_OBJ    := $(HOST_COMMON) $(HOST_TWICE:%=$(BUILD)/%.o)

# The other objects and libraries depend on CUDA and EMU: see tools/make/cuda.mk.
$(BUILD)/plstm: $(MAIN:%=$(BUILD)/%.o) $(HOST_COMMON)
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

# The constants of the cost model as a string: those of the literature first, then those of every measured machine.
CONSTANTS := profiles/model/constants.json $(filter-out profiles/model/%,$(wildcard profiles/*/constants.json))
$(BUILD)/gen/constants_json.h: $(CONSTANTS) Makefile
	@mkdir -p $(@D)
	$(Q){ echo '"["'; for f in $(CONSTANTS); do [ $$f = $(firstword $(CONSTANTS)) ] || echo '","'; \
	    sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' $$f; done; echo '"]"'; } > $@
$(BUILD)/host/plan/cost_model.o: $(BUILD)/gen/constants_json.h

include $(addprefix tools/make/,emulator.mk cuda.mk bundle.mk bench.mk examine.mk k20_sim.mk results.mk tests.mk)

# ---- the main targets ----

deps:
	@tools/deps.sh

SEEDS ?= 1
# Without a GPU the demo needs no CUDA, so it does not wait for nvcc.
DEMO_PLSTM := $(if $(wildcard /dev/nvidia[0-9]*)$(filter 1,$(EMU)),$(BUILD)/plstm,$(BUILD)/cpu/plstm)
demo: deps
	$(Q)$(MAKE) --no-print-directory $(DEMO_PLSTM)
	$(Q)$(PYTHON) tools/demo.py --plstm $(DEMO_PLSTM) --out $(BUILD)/demo --seeds $(SEEDS)

demo-translate demo-speech demo-caption: demo-%: deps
	$(Q)$(MAKE) --no-print-directory $(DEMO_PLSTM)
	$(Q)$(PYTHON) tools/demo_$*.py --plstm $(DEMO_PLSTM) --out $(BUILD)/$@ --seeds $(SEEDS)

parity: deps
	$(Q)$(MAKE) --no-print-directory $(BUILD)/plstm
	$(Q)$(PYTHON) tools/parity.py --plstm $(BUILD)/plstm --out $(BUILD)/parity \
	    --seeds $(if $(filter file,$(origin SEEDS)),20,$(SEEDS))

results:
	$(Q)$(PYTHON) tools/results.py
results-check:
	$(Q)$(PYTHON) tools/results.py --check
report:
	$(Q)mkdir -p $(BUILD) && $(PYTHON) tools/results.py --html $(BUILD)/report.html && echo $(BUILD)/report.html

SOURCES = $(shell git ls-files '*.c' '*.h' '*.cpp' '*.cu' '*.cuh')
format:
	$(Q)clang-format -i $(SOURCES)
format-check:
	$(Q)clang-format --dry-run -Werror $(SOURCES)

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize

-include $(shell find $(BUILD) -name '*.d')
