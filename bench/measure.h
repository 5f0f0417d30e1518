// measure: which samples of a time count, when there are enough of them, and what they say. It reads no clock and knows no GPU:
// samples come in, decisions and numbers come out, so that a test can feed it any machine it likes.
#ifndef PLSTM_BENCH_MEASURE_H
#define PLSTM_BENCH_MEASURE_H

#include <cstddef>
#include <utility>
#include <vector>

namespace measure
{

enum class Stop {
    NOT_YET,
    NOISE,     // the samples agree
    SETTLED,   // they do not, and more of them no longer change by how much
    TIME,      // the time that a row may take is over
    THROTTLED, // the clock stood too low for too many samples in a row
};

// "noise", "settled", "time", "throttled".
const char *stop_name(Stop why);

// Noise is the relative interquartile range, (p75 - p25) / median: a few samples that the host disturbed do not move it.
struct Rule {
    std::size_t least = 10; // samples that count, before anything but time may end it
    double noise = 0.005;   // ends below
    double settled =
        0.05; // ends when the noises after each of the last `window` samples lie within this share
    std::size_t window = 32; // of their mean
    double seconds = 1.0;    // ends at
    double full_mhz = 0; // the clock of a GPU that nothing holds back; 0: clocks are not looked at
    double throttle = 0.75;      // a sample under this share of it does not count
    std::size_t discarded = 100; // ends after so many of those in a row
};

struct Result {
    double median = 0, least = 0, p10 = 0, p90 = 0; // microseconds
    double low = 0, high = 0; // hold the median of all that could be sampled, in 95 % of cases
    double iqr = 0;           // relative
    double mhz = 0;           // median over the samples; 0: not known
    std::size_t samples = 0, discarded = 0;
    Stop why = Stop::NOT_YET;
};

class Measurement
{
  public:
    explicit Measurement(const Rule &rule) : rule(rule) {}

    // One sample in microseconds, the SM clock around it (0: not known), the seconds since the measurement began. False: it does not
    // count, because the clock was throttled.
    bool add(double us, double mhz, double seconds);
    bool done() const { return why != Stop::NOT_YET; }
    // Of at least one sample that counts; otherwise all zero but `discarded` and `why`.
    Result result() const;

  private:
    Rule rule;
    std::vector<double> sorted, clocks, noises;
    std::size_t discarded = 0, in_a_row = 0;
    Stop why = Stop::NOT_YET;
};

// The value below which `share` of the samples lie, between neighbours by their distance; not of an empty list.
double quantile(const std::vector<double> &sorted, double share);

// Order statistics, from either end, that hold the median in 95 % of cases: the rank of the lower one, counted from 0. Of fewer than six
// samples none do: 0, the least and the largest.
std::size_t median_rank(std::size_t n);

// t = a + b T by least squares of the relative error, since times are as noisy as they are long.
struct Line {
    double a = 0, b = 0;
    double worst = 0; // largest |t - a - b T| / t: how straight it is
    bool known = false;
};
// (T, t) pairs; known where two different T are among them.
Line fit(const std::vector<std::pair<double, double>> &points);

} // namespace measure

#endif
