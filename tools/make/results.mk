# Programs that make data for RESULTS.md.

# What dropout does to what a trained model remembers: profiles/README.md.
$(BUILD)/tools/claims: $(BUILD)/tools/results/claims.o $(HOST_OBJ)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $^ $(LDFLAGS) $(LDLIBS) -o $@
