/* `plstm devices`: prints the GPUs on which the cuda backend could run. */
#include "commands.h"

#include "host/plan/device.h"

static void print_device(FILE *out, const DeviceFacts *f)
{
    fprintf(out, "%3d  %s: sm_%d%d, %d SMs, %d MHz, %.1f GiB at %d MHz x %d bits%s\n", f->index,
            f->name, f->major, f->minor, f->sms, f->clock_mhz, (double)f->memory / (1 << 30),
            f->memory_clock_mhz, f->memory_bus_bits, f->ecc ? ", ECC" : "");
    fprintf(out,
            "     per SM: %d registers, %zu bytes shared (%zu per block, %zu of them reserved), %d "
            "threads, %d "
            "blocks\n",
            f->registers_per_sm, f->shared_per_sm, f->shared_per_block_most, f->shared_reserved,
            f->threads_per_sm, f->blocks_per_sm);
    fprintf(out, "     L2 %zu bytes; cooperative launch %s, clusters %s\n", f->l2,
            f->cooperative ? "yes" : "no", f->clusters ? "yes" : "no");
}

int devices_command(FILE *out, Error *e)
{
    DeviceFacts f;
    int n, code = device_count(&n, e);
    for (int i = 0; !code && i < n; i++) {
        code = device_facts(i, &f, e);
        if (!code && i == 0)
            fprintf(out, "CUDA %d.%d, driver for CUDA %d.%d\n", f.runtime / 1000,
                    f.runtime / 10 % 100, f.driver / 1000, f.driver / 10 % 100);
        if (!code) print_device(out, &f);
    }
    return code;
}

static int devices(const CommandLine *line, Error *e)
{
    (void)line;
    return devices_command(stdout, e);
}

const Command command_devices = {.name = "devices",
                                 .summary = "print the GPUs of this machine",
                                 .about = "Prints the GPUs on which the cuda backend could run.",
                                 .run = devices};
