# The kernels of sm_35 in a cycle simulator that the user has: tools/k20_sim/driver.cu once with each kernel file, and
# of the persistent ones a program whose blocks come late (-skew) and one whose blocks do not wait (-nowait). GPGPU-Sim
# reads the PTX of CUDA 11.8 out of the program. Nothing here fetches or builds the simulator.

GPGPUSIM ?=

SIM_DIR      := $(BUILD)/k20-sim
SIM_KERNELS  := $(notdir $(basename $(filter kernels/fwd_% kernels/bwd_%,$(K20_FILES))))
SIM_WAITING  := $(filter $(notdir $(basename $(shell grep -l '^PERSISTENT_PASS' kernels/*.cu))),$(SIM_KERNELS))
SIM_PROGRAMS := $(SIM_KERNELS) $(SIM_WAITING:%=%-skew) $(SIM_WAITING:%=%-nowait)
# The planner, without CUDA.
SIM_PLANNER  := $(filter-out host/plan/cuda_check.c,$(wildcard host/plan/*.c)) host/base/error.c host/base/number.c \
    kernels/footprints.c
SIM_HOST     := $(SIM_PLANNER:%.c=$(SIM_DIR)/%.o)
SIM_SOURCES  := tools/k20_sim/driver.cu tests/support/oracle.h tests/support/oracle_both.h \
    $(wildcard tools/k20_sim/*.cuh kernels/*.cuh kernels/*.h host/plan/*.h)

# $(1): a kernel file. Its variant; the file whose kernels it runs, where they are not its own; what stands before it.
sim_variant = $(patsubst fwd_%,%,$(patsubst bwd_%,%,$(1)))
sim_also    = $(shell awk -F'[^A-Za-z0-9_]+' '/^PERSISTENT_PASS_OF/ {print $$3}' kernels/$(1).cu)
sim_hooks   = $(if $(filter $(1),$(SIM_WAITING)),-include tools/k20_sim/hooks.cuh,-DSIM_BASELINE)
sim_defines = -DSIM_FILE='"kernels/$(1).cu"' -DSIM_VARIANT=$(sim_variant) \
    -DSIM_BACKWARD=$(if $(filter bwd_%,$(1)),1,0) $(patsubst %,-DSIM_ALSO='"kernels/%.cu"',$(sim_also)) $(sim_hooks)
# $(2): options.
define sim_program
$(call say,NVCC,$@)
$(Q)$(K20_COMPILE) -gencode arch=compute_35$(comma)code=compute_35 -std=c++17 -O3 -cudart shared \
    -D__restrict__= -I. -Ikernels $(sim_defines) $(2) tools/k20_sim/driver.cu $(SIM_HOST) -ljansson -o $@
endef

$(SIM_DIR)/%.o: %.c $(BUILD)/gen/constants_json.h $(wildcard kernels/*.h host/plan/*.h)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -O2 -w -D_GNU_SOURCE -I. -I$(BUILD)/gen -c $< -o $@
$(SIM_DIR)/%-skew: kernels/%.cu $(SIM_SOURCES) $(SIM_HOST) | $(K20_HEADERS)
	$(call sim_program,$*,-DSIM_SKEW=1200)
$(SIM_DIR)/%-nowait: kernels/%.cu $(SIM_SOURCES) $(SIM_HOST) | $(K20_HEADERS)
	$(call sim_program,$*,-DSIM_NO_WAIT)
$(SIM_DIR)/%: kernels/%.cu $(SIM_SOURCES) $(SIM_HOST) | $(K20_HEADERS)
	$(call sim_program,$*)

.PHONY: k20-sim
.SECONDARY: $(SIM_HOST)
# Compiles nothing for a folder that holds no simulator, of which k20_sim.py then tells.
k20-sim: $(if $(and $(wildcard $(GPGPUSIM)/setup_environment),$(K20_NVCC)),$(SIM_PROGRAMS:%=$(SIM_DIR)/%))
	@[ -n '$(K20_NVCC)' ] || [ -z '$(GPGPUSIM)' ] || \
	    { echo 'make k20-sim needs CUDA 11.8: tools/deps.sh k20 installs it where Debian has it; or give' \
	    'K20_CUDA=DIR' >&2; exit 4; }
	$(Q)$(PYTHON) tools/k20_sim/k20_sim.py --gpgpusim '$(GPGPUSIM)' --cuda '$(K20_CUDA)' --built $(SIM_DIR) \
	    --out profiles/k20-sim/steps.json $(K20_SIM_OPTIONS)
