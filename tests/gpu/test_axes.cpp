/* Tests bench/axes.cpp: the shapes and precisions of the rows, and the options that select them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <stdexcept>

extern "C" {
#include <cmocka.h>
}

#include "bench/axes.h"

using namespace axes;

namespace
{

void assert_sizes(const std::vector<int64_t> &found, const std::vector<int64_t> &wanted_)
{
    assert_true(found == wanted_);
}

void assert_refused(const char *argument, const char *part)
{
    Axes a;
    try {
        take(&a, argument);
    } catch (const std::invalid_argument &sentence) {
        if (!strstr(sentence.what(), part)) fail_msg("%s: %s", argument, sentence.what());
        return;
    }
    fail_msg("%s was taken", argument);
}

void all_of_it(void **)
{
    std::vector<Workload> found = workloads(Axes());
    assert_int_equal(found.size(), 4);
    assert_string_equal(shape_name(found[0]).c_str(), "H:200/B:20/T:20");
    assert_string_equal(shape_name(found[1]).c_str(), "H:650/B:20/T:35");
    assert_string_equal(shape_name(found[2]).c_str(), "H:1500/B:20/T:35");
    assert_string_equal(shape_name(found[3]).c_str(), "H:768/B:16/T:1024");
    assert_sizes(lengths(Axes(), found[0]), {20, 35, 70, 140});
    assert_sizes(lengths(Axes(), found[1]), {35, 20, 70, 140});
    assert_sizes(lengths(Axes(), found[3]), {1024});
    assert_true(found[0].keep == 1 && found[1].keep == 0.5 && found[2].keep == 0.35);
}

void sizes_are_ones_choice(void **)
{
    Axes a;
    assert_true(take(&a, "--h=650,100"));
    assert_true(take(&a, "--b=1,32"));
    assert_true(take(&a, "--t=50,7,50"));
    std::vector<Workload> found = workloads(a);
    assert_int_equal(found.size(), 4);
    assert_string_equal(shape_name(found[0]).c_str(), "H:650/B:1/T:50");
    assert_string_equal(shape_name(found[1]).c_str(), "H:650/B:32/T:50");
    assert_string_equal(shape_name(found[2]).c_str(), "H:100/B:1/T:50");
    assert_string_equal(shape_name(found[3]).c_str(), "H:100/B:32/T:50");
    assert_true(found[0].keep == 0.5 && found[2].keep == 0.5);
    assert_sizes(lengths(a, found[0]), {50, 7});
}

void one_axis_leaves_the_others(void **)
{
    Axes a;
    assert_true(take(&a, "--h=200,768"));
    std::vector<Workload> found = workloads(a);
    assert_int_equal(found.size(), 2);
    assert_string_equal(shape_name(found[0]).c_str(), "H:200/B:20/T:20");
    assert_string_equal(shape_name(found[1]).c_str(), "H:768/B:16/T:1024");
}

void names_and_precisions(void **)
{
    Axes a;
    assert_true(take(&a, "--variants=cublas,reg"));
    assert_true(take(&a, "--precision=bf16,f32"));
    assert_true(take(&a, "--directions=bwd"));
    assert_true(wanted(a.variants, std::string("reg")) && !wanted(a.variants, std::string("re")));
    assert_true(wanted(a.precisions, Precision::BF16) && !wanted(a.precisions, Precision::TF32));
    assert_true(wanted(a.directions, std::string("bwd")) &&
                !wanted(a.directions, std::string("fwd")));
    assert_true(wanted(Axes().variants, std::string("anything")));
    for (Precision p : {Precision::F32, Precision::TF32, Precision::BF16, Precision::F16}) {
        Axes one;
        assert_true(take(&one, std::string("--precision=") + name_of(p)));
        assert_true(one.precisions == std::vector<Precision>{p});
    }
}

void what_is_no_list_is_refused(void **)
{
    for (const char *argument : {"--h=", "--h=a", "--h=1,,2", "--b=-1", "--t=0", "--t=1.5",
                                 "--h=99999999999999999999", "--h=1048577"})
        assert_refused(argument, "whole numbers");
    assert_refused("--variants=", "names");
    assert_refused("--variants=a,,b", "names");
    assert_refused("--precision=f64", "f32, tf32");
    assert_refused("--directions=forward", "fwd, bwd");
}

void other_arguments_are_not_taken(void **)
{
    Axes a;
    for (const char *argument : {"--benchmark_filter=--h=3", "--h", "h=3", "", "-h=3", "--hh=3"})
        assert_false(take(&a, argument));
    assert_true(a.H.empty());
}

void padded_shapes(void **)
{
    std::vector<Workload> found = workloads(Axes());
    const char *names[] = {"H:256/B:24/T:20", "H:768/B:24/T:35", "H:1536/B:24/T:35",
                           "H:768/B:16/T:1024"};
    for (size_t i = 0; i < found.size(); i++) {
        assert_string_equal(shape_name(padded(Axes(), found[i])).c_str(), names[i]);
        assert_int_equal(padded(Axes(), found[i]).true_B, found[i].B);
    }
}

void tiny_ones(void **)
{
    Axes a;
    a.tiny = true;
    for (const Workload &w : workloads(a)) {
        assert_true(w.H * w.B * w.T < 1000);
        assert_int_equal(lengths(a, w).size(), 2);
    }
    take(&a, "--h=24");
    assert_int_equal(workloads(a)[0].H, 24);
    assert_string_equal(shape_name(padded(a, workloads(a)[0])).c_str(), "H:32/B:4/T:6");
}

} // namespace

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it),
        cmocka_unit_test(sizes_are_ones_choice),
        cmocka_unit_test(one_axis_leaves_the_others),
        cmocka_unit_test(names_and_precisions),
        cmocka_unit_test(what_is_no_list_is_refused),
        cmocka_unit_test(other_arguments_are_not_taken),
        cmocka_unit_test(padded_shapes),
        cmocka_unit_test(tiny_ones),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
