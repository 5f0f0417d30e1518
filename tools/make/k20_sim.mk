# Runs the kernels of sm_35 in the user's cycle simulator. tools/k20_sim/driver.cu is compiled once with each kernel
# file; persistent ones also get a program whose blocks arrive late (-skew) and one whose blocks do not wait (-nowait).
# GPGPU-Sim reads the PTX of CUDA 11.8 from the program. Nothing here fetches or builds the simulator.

GPGPUSIM ?=

SIM_DIR      := $(BUILD)/k20-sim
SIM_KERNELS  := $(notdir $(basename $(filter kernels/fwd_% kernels/bwd_%,$(K20_FILES))))
SIM_WAITING  := $(filter $(notdir $(basename $(shell grep -l '^PERSISTENT_PASS' kernels/*.cu))),$(SIM_KERNELS))
SIM_PROGRAMS := $(SIM_KERNELS) $(SIM_WAITING:%=%-skew) $(SIM_WAITING:%=%-nowait)
# The planner, which needs no CUDA.
SIM_PLANNER  := $(filter-out host/plan/cuda_check.c,$(wildcard host/plan/*.c)) host/base/error.c host/base/number.c \
    kernels/footprints.c
SIM_HOST     := $(SIM_PLANNER:%.c=$(SIM_DIR)/%.o)
SIM_SOURCES  := tools/k20_sim/driver.cu tests/support/oracle.h tests/support/oracle_both.h \
    $(wildcard tools/k20_sim/*.cuh kernels/*.cuh kernels/*.h host/plan/*.h)

# These depend on a kernel file $(1): its variant; the file whose kernels it runs, if they are not its own; and the
# options for its hooks.
sim_variant = $(patsubst fwd_%,%,$(patsubst bwd_%,%,$(1)))
sim_also    = $(shell awk -F'[^A-Za-z0-9_]+' '/^PERSISTENT_PASS_OF/ {print $$3}' kernels/$(1).cu)
sim_hooks   = $(if $(filter $(1),$(SIM_WAITING)),-include tools/k20_sim/hooks.cuh,-DSIM_BASELINE)
sim_defines = -DSIM_FILE='"kernels/$(1).cu"' -DSIM_VARIANT=$(sim_variant) \
    -DSIM_BACKWARD=$(if $(filter bwd_%,$(1)),1,0) $(patsubst %,-DSIM_ALSO='"kernels/%.cu"',$(sim_also)) $(sim_hooks)
# Compiles the program of kernel file $(1) with the options $(2).
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
# Compiles nothing if the folder has no simulator; k20_sim.py then reports that.
k20-sim: $(if $(and $(wildcard $(GPGPUSIM)/setup_environment),$(K20_NVCC)),$(SIM_PROGRAMS:%=$(SIM_DIR)/%))
	@[ -n '$(K20_NVCC)' ] || [ -z '$(GPGPUSIM)' ] || \
	    { echo 'make k20-sim needs CUDA 11.8: tools/deps.sh k20 installs it where Debian has it; or give' \
	    'K20_CUDA=DIR' >&2; exit 4; }
	$(Q)$(PYTHON) tools/k20_sim/k20_sim.py --gpgpusim '$(GPGPUSIM)' --cuda '$(K20_CUDA)' --built $(SIM_DIR) \
	    --out profiles/k20-sim/steps.json $(K20_SIM_OPTIONS)
