#include "machine.h"

#include <stdint.h>
#include <stdio.h>

size_t machine_memory(void)
{
    char line[256];
    unsigned long long kib;
    size_t bytes = SIZE_MAX;
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return bytes;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) bytes = (size_t)kib * 1024;
    fclose(f);
    return bytes;
}
