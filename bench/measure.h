// measure: decides which samples of a time count and when there are enough of them, and summarises
// them. It reads no clock and uses no GPU, so that a test can feed it the samples of any machine.
#ifndef PLSTM_BENCH_MEASURE_H
#define PLSTM_BENCH_MEASURE_H

#include <cstddef>
#include <utility>
#include <vector>

namespace measure
{

enum class Stop {
    NOT_YET,
    NOISE,     // the noise is below the limit
    SETTLED,   // the noise is above the limit, but no longer changes
    TIME,      // the time limit of the row is reached
    THROTTLED, // the clock was too low for too many consecutive samples
};

// "noise", "settled", "time", "throttled".
const char *stop_name(Stop why);

// Noise is the relative interquartile range, (p75 - p25) / median, which a few samples disturbed by
// the host do not change.
struct Rule {
    std::size_t least = 10; // the fewest counted samples, unless the time limit comes first
    double noise = 0.005;   // the measurement ends below this noise
    // It also ends when the noises after each of the last `window` samples are within this share of
    // their mean.
    double settled = 0.05;
    std::size_t window = 32;
    double seconds = 1.0;        // the time limit
    double full_mhz = 0;         // the clock of an unthrottled GPU; 0: clocks are ignored
    double throttle = 0.75;      // a sample below this share of full_mhz does not count
    std::size_t discarded = 100; // it also ends after so many consecutive discarded samples

    // Returns whether a sample at this clock (0: unknown) does not count.
    bool throttles(double mhz) const
    {
        return full_mhz > 0 && mhz > 0 && mhz < throttle * full_mhz;
    }
};

struct Result {
    double median = 0, least = 0, p10 = 0, p90 = 0; // microseconds
    double low = 0, high = 0;                       // the 95 % confidence interval of the median
    double iqr = 0;                                 // relative
    double mhz = 0;                                 // median over the samples; 0: unknown
    std::size_t samples = 0, discarded = 0;
    Stop why = Stop::NOT_YET;
};

class Measurement
{
  public:
    explicit Measurement(const Rule &rule) : rule(rule) {}

    // Adds one sample in microseconds, with the SM clock during it (0: unknown) and the seconds
    // since the measurement began. Returns false if it does not count because the clock was
    // throttled.
    bool add(double us, double mhz, double seconds);
    bool done() const { return why != Stop::NOT_YET; }
    // The result of the counted samples; without any, all fields but `discarded` and `why` are
    // zero.
    Result result() const;

  private:
    Rule rule;
    std::vector<double> sorted, clocks, noises;
    std::size_t discarded = 0, in_a_row = 0;
    Stop why = Stop::NOT_YET;
};

// Returns the quantile at `share`, interpolated between neighbouring samples; the list must not be
// empty.
double quantile(const std::vector<double> &sorted, double share);

// Returns the rank, from 0, of the lower of the two symmetric order statistics that enclose the
// median in 95 % of cases. With fewer than six samples no pair does; it returns 0, the least and
// the largest.
std::size_t median_rank(std::size_t n);

// The line t = a + b * T by least squares of the relative error, since the noise of a time is
// proportional to it.
struct Line {
    double a = 0, b = 0;
    double worst = 0; // the largest |t - a - b * T| / t
    bool known = false;
};
// Fits (T, t) pairs; the result is known if there are at least two different T.
Line fit(const std::vector<std::pair<double, double>> &points);

} // namespace measure

#endif
