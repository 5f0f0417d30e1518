/* The planted faults and the correct idioms: one list, run in every mode (test_emu_faults.cpp), told in
 * README.md's table. */
#ifndef EMU_FAULTS_H
#define EMU_FAULTS_H

/* What a run showed. */
enum Outcome {
    SILENT,   /* nothing: right values, no report */
    WRONG,    /* wrong values (NaN, stale), no report */
    REPORTED, /* the emulator's report */
    TRAPPED   /* ASan or UBSan ended the process */
};

struct FaultCase {
    const char *name;
    const char *what;
    int (*run)(int bug); /* returns 1 if the values are wrong; bug = 0 runs the correct twin */
    const char *message; /* words of the report where one is expected */
    enum Outcome plain, asan, race;
    int twin;  /* 1: the correct twin must be silent; 0: it is another case's, and silent there */
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
