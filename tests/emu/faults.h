/* The lists of planted faults and of correct idioms, which test_emu_faults.cpp runs in every mode.
 * README.md's table shows the results. */
#ifndef EMU_FAULTS_H
#define EMU_FAULTS_H

/* The result of a run. */
enum Outcome {
    SILENT,   /* right values and no report */
    WRONG,    /* wrong values (NaN or stale) and no report */
    REPORTED, /* a report of the emulator */
    TRAPPED   /* ASan or UBSan ended the process */
};

struct FaultCase {
    const char *name;
    const char *what;
    int (*run)(int bug); /* returns 1 if the values are wrong; bug = 0 runs the correct twin */
    const char *message; /* words of the expected report */
    enum Outcome plain, asan, race;
    int twin;  /* 1: the correct twin must be silent; 0: another case has the same twin */
    int seeds; /* 1: worth trying under random schedules */
};

extern const struct FaultCase fault_cases[];
extern const int fault_count;

struct IdiomCase {
    const char *name;
    int (*run)(int unused);
};
extern const struct IdiomCase idiom_cases[];
extern const int idiom_count;

#endif
