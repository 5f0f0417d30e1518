# The targets that make data for RESULTS.md.

# Measures the effect of dropout on the memory of a trained model; profiles/README.md lists the commands.
$(BUILD)/tools/claims: $(BUILD)/tools/results/claims.o $(HOST_OBJ)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $^ $(LDFLAGS) $(LDLIBS) -o $@

# Rebuilds what a change of kernels/variants.def or tiles.h makes stale. The cost model's predictions go into the table
# of variants, beside the later measurements.
PREDICTIONS := profiles/model/predictions.jsonl
.PHONY: refresh
refresh: all
	$(Q)$(if $(filter cuda,$(PLSTM_WITH)),$(PYTHON) tests/gpu/test_ptxas.py --write, \
	    echo 'kernels/ptxas_sm90.txt is unchanged, since this build has no kernels compiled by nvcc')
	$(Q)for device in H100 H200; do \
	    $(BUILD)/plstm plan --json --quiet --device $$device --precision all || exit 1; done > $(PREDICTIONS).tmp
	$(Q)mv $(PREDICTIONS).tmp $(PREDICTIONS)
	$(Q)$(MAKE) --no-print-directory results
