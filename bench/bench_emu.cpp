/* bench_emu: times the emulator: fiber switches, and a persistent LSTM recurrence of the size of
 * the paper's small model. It is built in the plain and in the race mode. */
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include "cuda_runtime_api.h"
#include "emu.h"
#include "tests/emu/bench_kernels.h"

static double peak_mb()
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024.0;
}

static void switches(benchmark::State &state)
{
    int blocks = (int)state.range(0), threads = (int)state.range(1);
    unsigned long long before = emu_switches();
    for (auto _ : state)
        if (bench_barriers(blocks, threads, 200) != cudaSuccess) state.SkipWithError(emu_report());
    state.counters["switches_per_s"] =
        benchmark::Counter((double)(emu_switches() - before), benchmark::Counter::kIsRate);
    state.counters["peak_mb"] = peak_mb();
}

static void grid_syncs(benchmark::State &state)
{
    unsigned long long before = emu_switches();
    for (auto _ : state)
        if (bench_grid_syncs((int)state.range(0), (int)state.range(1), 100) != cudaSuccess)
            state.SkipWithError(emu_report());
    state.counters["switches_per_s"] =
        benchmark::Counter((double)(emu_switches() - before), benchmark::Counter::kIsRate);
    state.counters["peak_mb"] = peak_mb();
}

static void lstm(benchmark::State &state)
{
    unsigned long long before = emu_switches();
    for (auto _ : state)
        if (bench_lstm((int)state.range(0), (int)state.range(1), (int)state.range(2),
                       (int)state.range(3), (int)state.range(4)) != cudaSuccess)
            state.SkipWithError(emu_report());
    state.counters["switches"] =
        benchmark::Counter((double)(emu_switches() - before), benchmark::Counter::kAvgIterations);
    state.counters["peak_mb"] = peak_mb();
}

BENCHMARK(switches)
    ->Name("emu/switches")
    ->ArgNames({"blocks", "threads"})
    ->Args({1, 256})
    ->Args({13, 256})
    ->Args({132, 256})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(grid_syncs)
    ->Name("emu/grid_syncs")
    ->ArgNames({"blocks", "threads"})
    ->Args({13, 256})
    ->Args({132, 256})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(lstm)
    ->Name("emu/lstm")
    ->ArgNames({"blocks", "threads", "H", "B", "T"})
    ->Args({4, 64, 64, 4, 8})
    ->Args({13, 256, 200, 20, 20})
    ->Args({132, 256, 200, 20, 20})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(1);

int main(int argc, char **argv)
{
    benchmark::AddCustomContext("emulator", emu_mode());
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
