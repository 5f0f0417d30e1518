// measure: see measure.h.
#include "measure.h"

#include <algorithm>
#include <cmath>

namespace measure
{

const char *stop_name(Stop why)
{
    switch (why) {
    case Stop::NOISE: return "noise";
    case Stop::SETTLED: return "settled";
    case Stop::TIME: return "time";
    case Stop::THROTTLED: return "throttled";
    case Stop::NOT_YET: break;
    }
    return "";
}

double quantile(const std::vector<double> &sorted, double share)
{
    const double at = share * (double)(sorted.size() - 1);
    const std::size_t i = (std::size_t)at, next = std::min(i + 1, sorted.size() - 1);
    return sorted[i] + (at - (double)i) * (sorted[next] - sorted[i]);
}

// Each sample is below the median with probability 1/2, so the number of such samples is binomial.
std::size_t median_rank(std::size_t n)
{
    double below = 0, log_half = (double)n * std::log(0.5);
    for (std::size_t k = 0; k < n / 2; k++) {
        below += std::exp(std::lgamma((double)n + 1) - std::lgamma((double)k + 1) -
                          std::lgamma((double)(n - k) + 1) + log_half);
        if (below > 0.025) return k > 0 ? k - 1 : 0;
    }
    return 0;
}

static double noise_of(const std::vector<double> &sorted)
{
    return (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / quantile(sorted, 0.5);
}

static bool settled(const std::vector<double> &noises, std::size_t window, double share)
{
    if (noises.size() < window) return false;
    auto from = noises.end() - (std::ptrdiff_t)window;
    double sum = 0;
    for (auto n = from; n != noises.end(); n++) sum += *n;
    const auto range = std::minmax_element(from, noises.end());
    return *range.second - *range.first <= share * sum / (double)window;
}

bool Measurement::add(double us, double mhz, double seconds)
{
    const bool counts = !rule.throttles(mhz);
    if (counts) {
        in_a_row = 0;
        sorted.insert(std::upper_bound(sorted.begin(), sorted.end(), us), us);
        if (mhz > 0) clocks.push_back(mhz);
        if (sorted.size() >= rule.least) noises.push_back(noise_of(sorted));
    } else {
        discarded++, in_a_row++;
    }
    if (!noises.empty() && noises.back() < rule.noise) why = Stop::NOISE;
    else if (settled(noises, rule.window, rule.settled)) why = Stop::SETTLED;
    else if (in_a_row >= rule.discarded) why = Stop::THROTTLED;
    else if (seconds >= rule.seconds) why = sorted.empty() ? Stop::THROTTLED : Stop::TIME;
    return counts;
}

Result Measurement::result() const
{
    Result r;
    r.discarded = discarded, r.why = why, r.samples = sorted.size();
    if (sorted.empty()) return r;
    const std::size_t rank = median_rank(sorted.size());
    r.median = quantile(sorted, 0.5), r.least = sorted[0];
    r.p10 = quantile(sorted, 0.1), r.p90 = quantile(sorted, 0.9);
    r.low = sorted[rank], r.high = sorted[sorted.size() - 1 - rank];
    r.iqr = noise_of(sorted);
    if (!clocks.empty()) {
        std::vector<double> in_order = clocks;
        std::sort(in_order.begin(), in_order.end());
        r.mhz = quantile(in_order, 0.5);
    }
    return r;
}

Line fit(const std::vector<std::pair<double, double>> &points)
{
    // The weights 1/t^2 turn the squares into those of relative errors.
    double s = 0, sT = 0, st = 0;
    for (const auto &p : points) {
        const double w = 1 / (p.second * p.second);
        s += w, sT += w * p.first, st += w * p.second;
    }
    const double T0 = sT / s, t0 = st / s; // the weighted mean is on the line
    double sTT = 0, sTt = 0;
    for (const auto &p : points) {
        const double w = 1 / (p.second * p.second);
        sTT += w * (p.first - T0) * (p.first - T0), sTt += w * (p.first - T0) * (p.second - t0);
    }
    Line line;
    line.known = std::any_of(points.begin(), points.end(),
                             [&](const auto &p) { return p.first != points[0].first; });
    if (!line.known) return line;
    line.b = sTt / sTT, line.a = t0 - line.b * T0;
    for (const auto &p : points)
        line.worst =
            std::max(line.worst, std::fabs(p.second - line.a - line.b * p.first) / p.second);
    return line;
}

} // namespace measure
