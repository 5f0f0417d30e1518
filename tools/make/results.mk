# What makes data for RESULTS.md.

# What dropout does to what a trained model remembers: profiles/README.md.
$(BUILD)/tools/claims: $(BUILD)/tools/results/claims.o $(HOST_OBJ)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $^ $(LDFLAGS) $(LDLIBS) -o $@

# What kernels/variants.def and tiles.h make stale. Predictions of the planner's model are for the table of variants:
# what a later measurement will stand beside.
PREDICTIONS := profiles/model/predictions.jsonl
.PHONY: refresh
refresh: all
	$(Q)$(if $(filter cuda,$(PLSTM_WITH)),$(PYTHON) tests/gpu/test_ptxas.py --write, \
	    echo 'kernels/ptxas_sm90.txt stays as it is: this build has no kernels by nvcc')
	$(Q)for device in H100 H200; do \
	    $(BUILD)/plstm plan --json --quiet --device $$device --precision all || exit 1; done > $(PREDICTIONS).tmp
	$(Q)mv $(PREDICTIONS).tmp $(PREDICTIONS)
	$(Q)$(MAKE) --no-print-directory results
