# Selects what computes the matrix products over all positions: plstm's own tiles, which no library beat (RESULTS.md),
# or a library.
BLAS_FLAGS_own      :=
BLAS_FLAGS_openblas := -DPLSTM_CBLAS
BLAS_FLAGS_blis     := -DPLSTM_CBLAS -DPLSTM_CBLAS_BLIS
BLIS_DIR ?= $(firstword $(dir $(wildcard /usr/lib/*/blis-openmp/libblis.so)))
ifeq ($(filter own openblas blis,$(BLAS)),)
$(error BLAS is own, openblas or blis, not '$(BLAS)')
endif
CPPFLAGS += $(BLAS_FLAGS_$(BLAS))
# OpenBLAS is linked into the programs that call it: emulated programs, which use it for cuBLAS, the benchmark that
# compares with it, and tests.
LDLIBS   += $(if $(filter blis,$(BLAS)),$(addprefix -L,$(BLIS_DIR)) \
    $(addprefix -Wl$(comma)-rpath$(comma),$(BLIS_DIR:%/=%)) -lblis) \
    -Wl,--as-needed -lopenblas -Wl,--no-as-needed -ljansson -lmd -lm
