# Builds bench_gpu, for the GPU and, for tests/gpu/test_bench_gpu.py, for the emulator; the libraries for profiling; and
# the bundle, a folder that is copied to a machine with a GPU, where it has everything that tools/gpu_run.sh needs. The
# bundle's programs are built separately, for sm_90 and for a generic CPU; each contains every kernel, so the machine
# code is compressed.

GPU_BUNDLE ?= gpu-bundle
GPU_BUILD  ?= build-gpu
# RPATH is searched before the system's folders and also for the libraries' own dependencies; the newer RUNPATH is not.
GPU_LDFLAGS := -Wl,--disable-new-dtags -Wl,-rpath,\$$$$ORIGIN/../lib $(addprefix -L,$(OPENBLAS_DIR))

BENCH_CPP := $(basename $(filter-out %/bench_cpu.cpp %/bench_emu.cpp,$(wildcard bench/*.cpp)))
BENCH_CU  := $(basename $(wildcard bench/*.cu))
BENCH_GPU := $(patsubst %,%.o,$(BENCH_CPP) $(BENCH_CU))
# ptxas advises compiling multicast for sm_90a; the benchmark measures it as compiled for sm_90.
$(BUILD)/cuda/bench/constants.o: NVCC_EXTRA := -Xptxas --suppress-async-bulk-multicast-advisory-warning
BENCH_DEFINES := -DPLSTM_FLAGS='"nvcc -std=c++17 -O3 -lineinfo $(CUDA_ARCHS) $(NVCCFLAGS)"'
$(BUILD)/cuda/bench/%.o: bench/%.cpp $(BUILD)/gen/flags
	$(call say,CXX,$< (cuda))
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(BENCH_DEFINES) -isystem $(CUDA_ROOT)/include $(CXXFLAGS) $(DEPFLAGS) -c $< -o $@
$(BUILD)/cuda/bench_gpu: $(BENCH_GPU:%=$(BUILD)/cuda/%) $(CUDA_REAL) $(HOST_COMMON)
	$(call say,LINK,$@)
	$(Q)$(CXX) $^ $(LDFLAGS) $(CUDA_LINK) $(LDLIBS) -lbenchmark $(CUDA_LIBS) -o $@

# bench_gpu for the emulator. The programs *_planted, for tests/gpu/test_bench_gpu.py and tests/tools/test_rehearsal.py,
# have four more variants: one is wrong, one hangs, one ends the process and one cannot be prepared.
$(BENCH_CPP:%=$(BUILD)/emu/plain/%.o): $(BUILD)/emu/plain/%.o: %.cpp $(BUILD)/gen/flags
	$(call emu_compile,$(CXX) -std=c++17 -fopenmp,$(CUDA_DEFINES),plain)
PLANTED     := $(basename $(wildcard tests/support/planted_*.c))
PLANTED_OBJ := $(patsubst %,$(BUILD)/emu/plain/%,$(PLANTED:%=%.o) \
    $(filter-out kernels/variants.o,$(CUDA_OBJ))) $(filter-out %/$(FOOTPRINTS).o,$(HOST_COMMON))
BENCH_EMULATED := $(BUILD)/emu/plain/bench_gpu $(BUILD)/emu/plain/bench_gpu_planted
$(BUILD)/emu/plain/bench_gpu: $(CUDA_OBJ:%=$(BUILD)/emu/plain/%) $(HOST_COMMON)
$(BUILD)/emu/plain/bench_gpu_planted: $(PLANTED_OBJ)
# -rdynamic: a library that the program opens may call the emulated runtime.
$(BENCH_EMULATED): $(BENCH_GPU:%=$(BUILD)/emu/plain/%) $(BUILD)/emu/plain/libemu.a
	$(call say,LINK,$@)
	$(Q)$(CXX) -rdynamic $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS) $(LDLIBS) -lbenchmark -ldl -o $@
$(BUILD)/emu/plain/plstm_planted: $(MAIN:%=$(BUILD)/%.o) $(PLANTED_OBJ) $(BUILD)/emu/plain/libemu.a
	$(call say,LINK,$@)
	$(Q)$(CXX) $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS) $(LDLIBS) -ldl -o $@
# A stand-in for cuDNN, for tests/gpu/test_cudnn.py.
$(BUILD)/tests/libfake_cudnn.so: tests/support/fake_cudnn.cpp $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -fopenmp $(EMU_CPPFLAGS) $(EMU_FLAGS) $(DEPFLAGS) -fPIC -shared $< -o $@
ifeq ($(SAN),)
tests-built: $(BENCH_EMULATED) $(BUILD)/emu/plain/plstm_planted $(BUILD)/tests/libfake_cudnn.so
endif

# ---- profiling ----

# The library that records NVTX ranges and, through CUPTI, kernels on machines without Nsight Systems
# (tools/profile.sh). Its test has its own CUPTI.
CUPTI_FLAGS := $(if $(wildcard $(CUDA_ROOT)/include/cupti.h),-isystem $(CUDA_ROOT)/include)
CUPTI_RPATH := $(if $(CUPTI_FLAGS),-Wl$(comma)-rpath$(comma)$(CUDA_ROOT)/lib64)
NVTX_TRACE  := $(BUILD)/lib/libnvtx_trace.so
$(NVTX_TRACE): tools/gpu/nvtx_trace.c $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O2 -g $(WARN) -D_GNU_SOURCE $(CUPTI_FLAGS) $(NVTX_FLAGS) -fPIC -shared $< \
	    -Wl,-rpath,'$$ORIGIN' $(CUPTI_RPATH) -o $@ -ldl
$(BUILD)/tests/fake_cupti.so: tests/support/fake_cupti.c $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O1 -g $(WARN) $(CUPTI_FLAGS) -fPIC -shared $< -o $@
ifneq ($(NVTX_DIR),)
tests-built gpu-bundle-built: $(NVTX_TRACE) $(if $(CUPTI_FLAGS),$(BUILD)/tests/fake_cupti.so)
endif

.PHONY: profile
PROFILE_WORDS := K H B T ROW TOOL METRICS RANGE PRECISION KEEP LAUNCHES STEPS OUT PLSTM
profile: all $(if $(ROW),$(BUILD)/cuda/bench_gpu) $(if $(NVTX_DIR),$(NVTX_TRACE))
	$(Q)tools/profile.sh BUILD=$(BUILD) $(foreach name,$(PROFILE_WORDS),'$(name)=$($(name))')

# The library that is loaded into GPU tests to count their launches.
LAUNCH_COUNT := $(BUILD)/lib/liblaunch_count.so
$(LAUNCH_COUNT): tests/support/launch_count.c $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O2 $(WARN) -fPIC -shared -isystem $(CUDA_ROOT)/include $< -L$(CUDA_ROOT)/lib64 \
	    -Wl,-rpath,'$$ORIGIN' -lcupti -o $@

# ---- the bundle ----

.PHONY: gpu-bundle gpu-bundle-built gpu-bundle-size
gpu-bundle:
	$(Q)LDFLAGS='$(GPU_LDFLAGS)' $(MAKE) --no-print-directory BUILD=$(GPU_BUILD) MARCH=x86-64-v3 ARCH=sm_90 \
	    NVCCFLAGS=-compress-mode=size CUDA=1 EMU=0 BLAS=openblas OPENBLAS_DIR= gpu-bundle-built
	$(Q)LD_LIBRARY_PATH=$(OPENBLAS_DIR) CUPTI=$(firstword $(wildcard $(CUDA_ROOT)/lib64/libcupti.so.??)) \
	    tools/gpu/bundle.sh $(GPU_BUILD) $(GPU_BUNDLE) '$(COMMIT_TEXT)'
gpu-bundle-built: $(BUILD)/plstm $(BUILD)/cuda/bench_gpu $(LAUNCH_COUNT) cuda-tests \
    $(if $(NVTX_DIR),$(BUILD)/tests/nvtx_record.so)
gpu-bundle-size:
	$(Q)tools/gpu/bundle.sh --size $(GPU_BUNDLE)

# Runs both calls of tools/gpu_run.sh as on a machine with a GPU, but on the emulated GPU at tiny shapes.
.PHONY: rehearse rehearse-run
rehearse: deps
	$(Q)$(MAKE) --no-print-directory rehearse-run
rehearse-run: $(addprefix $(BUILD)/emu/plain/,plstm bench_gpu test_kernels test_backend_cuda test_cuda_precision) \
    $(BUILD)/tests/libfake_cudnn.so $(if $(NVTX_DIR),$(NVTX_TRACE))
	$(Q)$(PYTHON) tools/gpu/rehearse.py --build $(BUILD)
