# Examines the machine code of the kernels (tools/examine/examine.py) and files the results under profiles/. For a K20
# the kernels are compiled with CUDA 11.8, the last toolkit that supports sm_35; for sm_90, with the compiler of the
# program. If that compiler's toolkit has no disassembler, 11.8's disassembler lists what 11.8 compiles for sm_90, since
# it cannot read CUDA 13's files.

K20_CUDA  ?= $(firstword $(patsubst %/bin/nvcc,%,$(wildcard /usr/local/cuda-11.8/bin/nvcc)) \
    $(if $(wildcard /usr/lib/nvidia-cuda-toolkit/bin/nvcc),/usr))
K20_CXX   ?= g++-11
K20_NVCC  := $(wildcard $(addsuffix /bin/nvcc,$(K20_CUDA)))
K20_DIR   := $(BUILD)/sm_35
OTHER_DIR := $(BUILD)/sm_90-by-11.8
# 11.8's folder comes first on PATH, else nvcc runs the other toolkit's ptxas. Debian's headers are in /usr/include,
# after /usr/local/include, which may have other versions, so a separate folder with Debian's comes before both.
K20_HEADERS := $(if $(filter /usr,$(K20_CUDA)),$(K20_DIR)/include)
K20_COMPILE  = PATH=$(K20_CUDA)/bin:$$PATH $(K20_NVCC) -ccbin $(K20_CXX) $(addprefix -isystem ,$(K20_HEADERS)) \
    -Wno-deprecated-gpu-targets
# $(call VARIANT_FILES,CONDITION) lists the files of the variants whose fields in variants.def satisfy awk's CONDITION.
# K20_FILES leaves out the variants that sm_35 cannot run, SASS_FILES below those that 11.8 cannot compile.
VARIANT_FILES = $(foreach v,$(shell awk -F '[^A-Za-z0-9_]+' '/^[A-Z]/ && $(1) {print $$2}' kernels/variants.def),\
    kernels/fwd_$(v).cu kernels/bwd_$(v).cu)
K20_FILES   := $(filter-out $(call VARIANT_FILES,$$3 > 35),$(wildcard kernels/*.cu))
$(K20_DIR)/include:
	@rm -rf $@.tmp && mkdir -p $@.tmp && cd $@.tmp && \
	    dpkg -L nvidia-cuda-dev | sed -n '/^\/usr\/include\/[^/]*$$/p' | xargs ln -s -t . && \
	    mv ../$(@F).tmp ../$(@F)
$(K20_DIR)/%.o: %.cu $(BUILD)/gen/flags | $(K20_HEADERS)
	$(call say,NVCC,$< (sm_35))
	$(call compile_kernel,$(K20_COMPILE) -gencode arch=compute_35$(comma)code=sm_35)
$(OTHER_DIR)/%.o: %.cu $(BUILD)/gen/flags | $(K20_HEADERS)
	$(call say,NVCC,$< (sm_90 by 11.8))
	$(call compile_kernel,$(K20_COMPILE) -gencode arch=compute_90$(comma)code=sm_90)

# Without a disassembler in the program's toolkit, 11.8's disassembler lists the files that 11.8 compiled.
OWN_NVDISASM := $(firstword $(wildcard $(CUDA_ROOT)/bin/nvdisasm))
SASS_FILES  := $(filter-out $(call VARIANT_FILES,$$4 > 11080),$(wildcard kernels/*.cu))
SASS_LISTED := $(if $(OWN_NVDISASM),,$(SASS_FILES:%.cu=$(OTHER_DIR)/%.o))
EXAMINE     := $(PYTHON) tools/examine/examine.py

.PHONY: k20 sass
k20: $(if $(K20_NVCC),$(BUILD)/plstm $(K20_FILES:%.cu=$(K20_DIR)/%.o))
	@[ -n '$(K20_NVCC)' ] || \
	    { echo 'make k20 needs CUDA 11.8; install it with tools/deps.sh k20 if Debian has it, or give' \
	    'K20_CUDA=DIR' >&2; exit 1; }
	$(Q)$(EXAMINE) k20 --built $(K20_DIR)/kernels --nvcc $(K20_NVCC) --nvdisasm $(K20_CUDA)/bin/nvdisasm \
	    --plan $(BUILD)/plstm --out profiles/k20/machine-code.json
sass: $(if $(NVCC),$(patsubst %.cu,$(BUILD)/cuda/%.o,$(wildcard kernels/*.cu)) $(if $(K20_NVCC),$(SASS_LISTED)))
	@[ -n '$(NVCC)' ] || { echo 'make sass needs the nvcc of CUDA 12 or 13' >&2; exit 1; }
	@[ -n '$(OWN_NVDISASM)$(K20_NVCC)' ] || { echo 'make sass needs a disassembler, nvdisasm beside nvcc' \
	    'or that of CUDA 11.8 (tools/deps.sh k20)' >&2; exit 1; }
	$(Q)$(EXAMINE) sass --built $(BUILD)/cuda/kernels --nvcc $(NVCC) --out profiles/sm_90/machine-code.json \
	    $(if $(OWN_NVDISASM),--nvdisasm $(OWN_NVDISASM),--listed $(OTHER_DIR)/kernels --listed-nvcc $(K20_NVCC) \
	    --nvdisasm $(K20_CUDA)/bin/nvdisasm)
