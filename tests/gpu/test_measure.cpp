/* Tests bench/measure.cpp on synthetic timings: when it stops, what it discards, its results and
 * its fits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "bench/measure.h"

using measure::Measurement;
using measure::Rule;
using measure::Stop;

namespace
{

/* A generator of uniform numbers in [0, 1), the same in every run. */
struct Random {
    uint64_t state = 1;
    double next()
    {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (double)(state >> 11) * 0x1p-53;
    }
    /* Returns a nearly normal number of mean 0 and standard deviation 1. */
    double normal()
    {
        double sum = -6;
        for (int i = 0; i < 12; i++) sum += next();
        return sum;
    }
};

void assert_near(double found, double wanted, double allowed)
{
    if (!(fabs(found - wanted) <= allowed))
        fail_msg("%.9g is not %.9g +- %.3g", found, wanted, allowed);
}

/* Adds at most n samples, 10 ms apart, until the measurement is done; returns their number. */
template <class F> size_t feed(Measurement *m, size_t n, F sample)
{
    size_t i = 0;
    for (; i < n && !m->done(); i++) m->add(sample(i), 0, 0.01 * (double)(i + 1));
    return i;
}

void quiet_samples_end_it_at_once(void **)
{
    Random random;
    Measurement m{Rule()};
    assert_int_equal(feed(&m, 1000, [&](size_t) { return 100 + 0.1 * random.normal(); }), 10);
    measure::Result r = m.result();
    assert_int_equal(r.why, Stop::NOISE);
    assert_int_equal(r.samples, 10);
    assert_near(r.median, 100, 0.2);
    assert_true(r.iqr < 0.005 && r.least <= r.p10 && r.p10 <= r.median && r.median <= r.p90);
    assert_true(r.low <= r.median && r.median <= r.high);
    assert_near(r.mhz, 0, 0);
}

void never_fewer_than_the_least(void **)
{
    for (size_t least : {3, 10, 25}) {
        Rule rule;
        rule.least = least;
        Measurement m(rule);
        assert_int_equal(feed(&m, 1000, [](size_t) { return 7.0; }), least);
    }
}

/* Outliers, such as those of an interrupted host, neither prolong the measurement nor change the
 * median. */
void outliers_do_not_matter(void **)
{
    Random random;
    Measurement m{Rule()};
    size_t taken =
        feed(&m, 1000, [&](size_t i) { return i % 6 == 1 ? 500 : 100 + 0.05 * random.normal(); });
    assert_int_equal(taken, 10);
    assert_near(m.result().median, 100, 0.2);
}

void noise_that_settles_ends_it(void **)
{
    Random random;
    Rule rule;
    rule.seconds = 1000;
    Measurement m(rule);
    size_t taken = feed(&m, 100000, [&](size_t) { return 100 + 3 * random.normal(); });
    measure::Result r = m.result();
    assert_int_equal(r.why, Stop::SETTLED);
    assert_true(taken > 60 && taken < 2000);
    assert_near(r.iqr, 3 * 1.349 / 100, 0.01); /* a normal distribution's is 1.349 deviations */
    assert_near(r.median, 100, 1);
}

/* Slowly increasing times are neither quiet nor settled. */
void time_ends_it(void **)
{
    Rule rule;
    rule.seconds = 0.5, rule.settled = 1e-4;
    Measurement m(rule);
    assert_int_equal(feed(&m, 1000, [](size_t i) { return 100.0 + (double)i; }), 50);
    assert_int_equal(m.result().why, Stop::TIME);
}

void time_ends_it_before_the_least(void **)
{
    Rule rule;
    rule.seconds = 0.035;
    Measurement m(rule);
    assert_int_equal(feed(&m, 1000, [](size_t) { return 9e4; }), 4);
    measure::Result r = m.result();
    assert_int_equal(r.why, Stop::TIME);
    assert_int_equal(r.samples, 4);
    assert_near(r.median, 9e4, 0);
}

void throttled_samples_do_not_count(void **)
{
    Rule rule;
    rule.full_mhz = 2000;
    Measurement m(rule);
    /* Three of four samples are at 1000 MHz and take twice as long. */
    size_t taken = 0, counted = 0;
    for (; !m.done() && taken < 1000; taken++) {
        bool slow = taken % 4 != 0;
        counted += m.add(slow ? 200 : 100, slow ? 1000 : 1980, 0);
    }
    measure::Result r = m.result();
    assert_int_equal(r.why, Stop::NOISE);
    assert_int_equal(counted, 10);
    assert_int_equal(r.samples, 10);
    assert_int_equal(r.discarded, taken - 10);
    assert_near(r.median, 100, 0);
    assert_near(r.high, 100, 0);
    assert_near(r.mhz, 1980, 0);
}

void the_clock_may_fall_as_far_as_the_rule_says(void **)
{
    Rule rule;
    rule.full_mhz = 2000, rule.throttle = 0.75;
    Measurement m(rule);
    assert_true(m.add(1, 1500, 0));
    assert_false(m.add(1, 1499, 0));
    assert_true(m.add(1, 0, 0)); /* the clock is not known */
    rule.full_mhz = 0;
    Measurement unknown(rule);
    assert_true(unknown.add(1, 1, 0));
}

void a_clock_that_stays_low_ends_it_without_a_time(void **)
{
    Rule rule;
    rule.full_mhz = 2000, rule.discarded = 20;
    Measurement m(rule);
    size_t taken = 0;
    for (; !m.done() && taken < 1000; taken++) m.add(100, 900, 0);
    measure::Result r = m.result();
    assert_int_equal(taken, 20);
    assert_int_equal(r.why, Stop::THROTTLED);
    assert_int_equal(r.samples, 0);
    assert_int_equal(r.discarded, 20);
    assert_near(r.median, 0, 0);

    Measurement late(rule); /* here the time limit comes first */
    late.add(100, 900, 2);
    assert_true(late.done());
    assert_int_equal(late.result().why, Stop::THROTTLED);
}

/* The interval contains the true median in at least 95 % of cases, but not in all, so it is no
 * wider than necessary. */
void the_interval_holds_the_median(void **)
{
    Random random;
    for (size_t n : {10, 33, 100}) {
        Rule rule;
        rule.least = n, rule.noise = 1e9;
        int held = 0;
        const int trials = 2000;
        for (int t = 0; t < trials; t++) {
            Measurement m(rule);
            feed(&m, n, [&](size_t) { return exp(random.normal()); }); /* skewed; its median is 1 */
            held += m.result().low <= 1 && 1 <= m.result().high;
        }
        double share = (double)held / trials, error = 3 * sqrt(0.95 * 0.05 / trials);
        if (share < 0.95 - error || share > 0.985 + error)
            fail_msg("n = %zu: held in %.3f of trials", n, share);
    }
}

void ranks_of_the_median(void **)
{
    /* n: rank from 1, as in tables of the sign test (two-sided, 5 %). */
    const size_t table[][2] = {{6, 1},  {8, 1},  {9, 2},  {10, 2},  {12, 3},
                               {15, 4}, {20, 6}, {25, 8}, {50, 18}, {100, 40}};
    for (auto &row : table) assert_int_equal(measure::median_rank(row[0]), row[1] - 1);
    for (size_t n = 1; n < 6; n++) assert_int_equal(measure::median_rank(n), 0);
    assert_true(measure::median_rank(100000) > 49600 && measure::median_rank(100000) < 49800);
}

void quantiles(void **)
{
    const std::vector<double> v = {1, 2, 3, 4, 10};
    assert_near(measure::quantile(v, 0), 1, 0);
    assert_near(measure::quantile(v, 0.5), 3, 0);
    assert_near(measure::quantile(v, 0.625), 3.5, 1e-12);
    assert_near(measure::quantile(v, 1), 10, 0);
    assert_near(measure::quantile({5}, 0.9), 5, 0);
}

void a_line_through_exact_points(void **)
{
    measure::Line line = measure::fit(
        {{20, 12 + 20 * 1.5}, {35, 12 + 35 * 1.5}, {70, 12 + 70 * 1.5}, {140, 12 + 140 * 1.5}});
    assert_true(line.known);
    assert_near(line.a, 12, 1e-9);
    assert_near(line.b, 1.5, 1e-9);
    assert_near(line.worst, 0, 1e-9);
}

void a_line_through_noisy_points(void **)
{
    Random random;
    double worst_b = 0, sum_a = 0;
    for (int trial = 0; trial < 200; trial++) {
        std::vector<std::pair<double, double>> points;
        for (double T : {20.0, 35.0, 70.0, 140.0})
            points.push_back({T, (10 + 2 * T) * (1 + 0.002 * random.normal())});
        measure::Line line = measure::fit(points);
        worst_b = fmax(worst_b, fabs(line.b - 2)), sum_a += line.a;
        assert_true(line.worst < 0.02);
    }
    assert_true(worst_b < 0.03);
    assert_near(sum_a / 200, 10, 0.1);
}

/* The long times must not outweigh the short ones, since only the short ones determine a. */
void errors_of_a_line_are_relative(void **)
{
    measure::Line line = measure::fit({{10, 20}, {20, 30}, {1000, 1010 * 1.05}});
    assert_near(line.a, 10, 1);
    assert_true(line.worst > 0.01);
}

void no_line_through_one_length(void **)
{
    assert_false(measure::fit({}).known);
    assert_false(measure::fit({{35, 100}}).known);
    assert_false(measure::fit({{35, 100}, {35, 101}}).known);
}

void every_reason_has_a_name(void **)
{
    assert_string_equal(measure::stop_name(Stop::NOISE), "noise");
    assert_string_equal(measure::stop_name(Stop::SETTLED), "settled");
    assert_string_equal(measure::stop_name(Stop::TIME), "time");
    assert_string_equal(measure::stop_name(Stop::THROTTLED), "throttled");
}

} // namespace

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(quiet_samples_end_it_at_once),
        cmocka_unit_test(never_fewer_than_the_least),
        cmocka_unit_test(outliers_do_not_matter),
        cmocka_unit_test(noise_that_settles_ends_it),
        cmocka_unit_test(time_ends_it),
        cmocka_unit_test(time_ends_it_before_the_least),
        cmocka_unit_test(throttled_samples_do_not_count),
        cmocka_unit_test(the_clock_may_fall_as_far_as_the_rule_says),
        cmocka_unit_test(a_clock_that_stays_low_ends_it_without_a_time),
        cmocka_unit_test(the_interval_holds_the_median),
        cmocka_unit_test(ranks_of_the_median),
        cmocka_unit_test(quantiles),
        cmocka_unit_test(a_line_through_exact_points),
        cmocka_unit_test(a_line_through_noisy_points),
        cmocka_unit_test(errors_of_a_line_are_relative),
        cmocka_unit_test(no_line_through_one_length),
        cmocka_unit_test(every_reason_has_a_name),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
