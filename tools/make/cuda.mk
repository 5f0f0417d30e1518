# Builds the cuda backend from the same sources against each mode of the emulator, for tests, and with nvcc. With EMU=1
# build/plstm is the plain emulated program. HOST_TWICE, which differs with and without CUDA, is compiled for both.
# The program built with nvcc also starts on machines without a driver: the runtime is linked statically, and cuBLAS is
# opened when it is needed, from the program's folder ($$ORIGIN), the toolkit or LD_LIBRARY_PATH.

CUDA_ROOT := $(patsubst %/bin/,%,$(dir $(NVCC)))
CUDA_OBJ  := $(patsubst %,%.o,$(HOST_TWICE) $(HOST_CUDA) $(basename $(wildcard kernels/*.cu)) \
    $(filter-out $(FOOTPRINTS),$(basename $(wildcard kernels/*.c))))
EMU_MODE  := $(if $(SAN),asan,plain)
# Tests of the code that runs on a GPU.
CUDA_TESTS := $(patsubst tests/gpu/%.c,%,$(wildcard tests/gpu/test_*.c))
TEST_HELP  := $(BUILD)/tests/support/plain_f32.o
# Parts of test_kernels.
KERNEL_SUITES := $(patsubst %.c,%.o,$(wildcard tests/gpu/suites/*.c))

# Put only the toolkit's NVTX headers on the include path, so that no CUDA header shadows one of the emulator's.
NVTX_DIR := $(firstword $(wildcard $(CUDA_ROOT)/include/nvtx3 /usr/local/cuda/include/nvtx3 /usr/include/nvtx3))
ifneq ($(NVTX_DIR),)
$(shell mkdir -p $(BUILD)/gen/nvtx && ln -sfn $(NVTX_DIR) $(BUILD)/gen/nvtx/nvtx3)
NVTX_FLAGS := -isystem $(BUILD)/gen/nvtx
endif

# ---- on the emulator ----

CUDA_DEFINES := -DPLSTM_CUDA $(NVTX_FLAGS) -I$(BUILD)/gen
define CUDA_EMU_RULES
$(BUILD)/emu/$(1)/host/%.o: host/%.c $(BUILD)/gen/flags
	$$(call emu_compile,$(CC) -std=c11,$$(CUDA_DEFINES) $$(EMU_HOST_$(1)),$(1))
$(CUDA_TESTS:%=$(BUILD)/emu/$(1)/%): $(BUILD)/emu/$(1)/%: $(BUILD)/emu/$(1)/tests/gpu/%.o \
    $(CUDA_OBJ:%=$(BUILD)/emu/$(1)/%) $(HOST_COMMON) $(TEST_HELP) $(BUILD)/emu/$(1)/libemu.a
	$$(call say,LINK,$$@)
	$$(Q)$(CC) $(EMU_HOST_$(1)) $$(filter %.o,$$^) $$(filter %.a,$$^) $$(LDFLAGS) $(LDLIBS) -lstdc++ -lcmocka -ldl \
	    -o $$@
$(BUILD)/emu/$(1)/plstm: $(MAIN:%=$(BUILD)/%.o) $(HOST_COMMON) $(CUDA_OBJ:%=$(BUILD)/emu/$(1)/%) \
    $(BUILD)/emu/$(1)/libemu.a
	$$(call say,LINK,$$@)
	$$(Q)$(CC) $(EMU_HOST_$(1)) $$(filter %.o,$$^) $$(filter %.a,$$^) $(LDFLAGS) $(LDLIBS) -lstdc++ -ldl -o $$@
$(BUILD)/emu/$(1)/test_cuda_precision: private LDFLAGS += -Wl,--wrap=sgemm_run
$(BUILD)/emu/$(1)/test_kernels: $(KERNEL_SUITES:%=$(BUILD)/emu/$(1)/%)
.PRECIOUS: $(BUILD)/emu/$(1)/host/%.o
endef
$(foreach mode,$(EMU_MODES),$(eval $(call CUDA_EMU_RULES,$(mode))))
CUDA_TEST_BIN := $(CUDA_TESTS:%=$(BUILD)/emu/$(EMU_MODE)/%)
ifeq ($(SAN),)
CUDA_TEST_BIN += $(addprefix $(BUILD)/emu/,race/test_backend_cuda race/test_kernels asan/test_kernels)
endif
# The tests run the emulated program and, if NVTX is installed, record its calls.
$(CUDA_TEST_BIN): | $(BUILD)/emu/$(EMU_MODE)/plstm $(if $(NVTX_DIR),$(BUILD)/tests/nvtx_record.so)
$(BUILD)/tests/nvtx_record.so: tests/support/nvtx_record.c $(BUILD)/gen/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O1 -g $(WARN) -D_GNU_SOURCE $(NVTX_FLAGS) -fPIC -shared $< -o $@

# ---- with nvcc ----

# $(call compile_kernel,the compiler and its flags), with more flags in NVCC_EXTRA. ptxas's report of registers and
# spills, the PTX and the machine code of each kernel file are kept beside the object.
define compile_kernel
	@rm -rf $(@:.o=.keep) && mkdir -p $(@:.o=.keep)
	$(Q)$(1) -std=c++17 -O3 -lineinfo -I. -Xcompiler -Wall -Xptxas -v $(NVCC_EXTRA) --keep \
	    --keep-dir $(@:.o=.keep) -MMD -MP -MF $(@:.o=.d) -c $< -o $@ > $(@:.o=.ptxas) 2>&1 || \
	    { cat $(@:.o=.ptxas) >&2; exit 1; }
	$(Q)grep -e warning -e error $(@:.o=.ptxas) >&2 || true
	$(Q)cat $(@:.o=.keep)/*.ptx > $(@:.o=.ptx) && mv $$(ls $(@:.o=.keep)/*.cubin | tail -n 1) $(@:.o=.cubin) && \
	    rm -r $(@:.o=.keep)
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
$(BUILD)/cuda/test_kernels: $(KERNEL_SUITES:%=$(BUILD)/cuda/%)
$(BUILD)/cuda/test_cuda_precision: private LDFLAGS += -Wl,--wrap=sgemm_run
$(CUDA_TESTS:%=$(BUILD)/cuda/%): $(BUILD)/cuda/%: $(BUILD)/cuda/tests/gpu/%.o $(CUDA_REAL) $(HOST_COMMON) $(TEST_HELP)
	$(call say,LINK,$@)
	$(Q)$(CC) $(filter %.o,$^) $(LDFLAGS) $(CUDA_LINK) $(LDLIBS) $(CUDA_LIBS) -lcmocka -o $@

# ---- the objects and libraries of plstm; a change of CUDA or EMU links it again ----

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
$(BUILD)/plstm: $(HOST_TWICE:%=$(BUILD)/%.o)
endif
$(BUILD)/cpu/plstm: $(MAIN:%=$(BUILD)/%.o) $(HOST_OBJ) # needs no CUDA, so it does not wait for nvcc
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $^ $(LDFLAGS) $(LDLIBS) -o $@
$(call refresh,$(BUILD)/gen/with,$(PLSTM_WITH))
$(BUILD)/plstm: $(BUILD)/gen/with
