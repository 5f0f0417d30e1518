// gpu_recurrence: the recurrence of one layer by a variant, forward and backward, and its reference
// in plain loops.
#include "gpu.h"

#include <algorithm>
#include <map>

#include "oracle.h"

extern "C" {
#include "host/plan/residency.h"
}

namespace bench_gpu
{

namespace
{

struct Input {
    Workload w;
    std::vector<float> w_hh, b_ih, b_hh, x_proj, h0, c0, dy;
};

Input input_of(const Workload &w, uint32_t set)
{
    const int64_t N = w.T * w.B;
    Input in;
    in.w = w;
    in.w_hh = drawn(1, 4 * w.H * w.H, w.init);
    in.b_ih = drawn(2, 4 * w.H, w.init), in.b_hh = drawn(3, 4 * w.H, w.init);
    in.x_proj = drawn(16 + set, N * 4 * w.H, 1.0);
    in.h0 = drawn(32 + set, w.B * w.H, 0.5), in.c0 = drawn(48 + set, w.B * w.H, 1.0);
    in.dy = drawn(64 + set, N * w.H, 0.01);
    return in;
}

// The rounding of a pass's operands: our persistent kernels round to nearest, a library passes them
// to the matrix unit, which truncates.
OracleRound round_of(const LstmVariant *variant, Precision p, bool backward)
{
    const bool ours = variant->footprint->tile[backward] != nullptr;
    return ours && p == Precision::TF32 ? oracle_tf32 : oracle::round_of(p);
}

oracle::Cell cell_of(const Input &in, OracleRound operand)
{
    return {in.w.T, in.w.B, in.w.H, in.w_hh.data(), in.b_ih.data(), in.b_hh.data(), operand};
}

// Runs the loops from the first step whose result is not known yet: the inputs of a shorter
// sequence are the beginning of those of a longer one.
template <class R>
oracle::Saved<R> forward(const Input &in, OracleRound p, const oracle::Saved<R> *known)
{
    oracle::Saved<R> s;
    const int64_t row = in.w.B * in.w.H;
    const size_t all = (size_t)((in.w.T + 1) * row), gates = (size_t)(in.w.T * 4 * row);
    const int64_t steps = known ? std::min(in.w.T, (int64_t)known->gates.size() / (4 * row)) : 0;
    s.gates.assign(in.x_proj.begin(), in.x_proj.end());
    s.h.assign(in.h0.begin(), in.h0.end()), s.h.resize(all);
    s.c.assign(in.c0.begin(), in.c0.end()), s.c.resize(all);
    if (steps > 0) {
        std::copy_n(known->gates.begin(), std::min(gates, (size_t)(steps * 4 * row)),
                    s.gates.begin());
        std::copy_n(known->h.begin(), (size_t)((steps + 1) * row), s.h.begin());
        std::copy_n(known->c.begin(), (size_t)((steps + 1) * row), s.c.begin());
    }
    recur(cell_of(in, p), &s, steps);
    return s;
}

// Applies the output mask to h of rows 1 to T, or to a gradient of it.
template <class R, class S> std::vector<R> masked(const Workload &w, const S *from)
{
    const MaskKey key = mask_key(seed, the_step, (int)L + 1, 1, w.keep);
    std::vector<R> to((size_t)(w.T * w.B * w.H));
    for (int64_t row = 0; row < w.T * w.B; row++)
        for (int64_t u = 0; u < w.H; u++) {
            const bool kept =
                w.keep >= 1 || mask_nibble(&key, row, w.H, u & ~int64_t{3}) >> (u & 3) & 1;
            const size_t at = (size_t)(row * w.H + u);
            to[at] = kept ? (R)from[at] * (w.keep < 1 ? (R)(1 / w.keep) : 1) : 0;
        }
    return to;
}

template <class R>
std::vector<R> backward(const Input &in, const oracle::Saved<float> &saved, OracleRound p)
{
    return oracle::recur_back<R>(cell_of(in, p), saved, masked<R>(in.w, in.dy.data()));
}

// The oracle's results for input set 0 of a shape. Rows of one shape are adjacent, so all but the
// first reuse these results. The results of a shorter length are the start of those of a longer
// one.
struct Known {
    std::shared_ptr<oracle::Saved<double>> truth;
    std::map<OracleRound, std::shared_ptr<oracle::Saved<float>>> plain;
    // computed from the saved tensors of plain[nullptr]
    std::shared_ptr<std::vector<double>> truth_back;
    std::map<OracleRound, std::shared_ptr<std::vector<float>>> plain_back;
};

struct KnownLengths {
    std::map<int64_t, Known> of;
    std::shared_ptr<oracle::Saved<double>> longest;
    std::map<OracleRound, std::shared_ptr<oracle::Saved<float>>> longest_plain;
};

KnownLengths &lengths_of(const Workload &w)
{
    static std::string shape;
    static KnownLengths known;
    Workload any = w;
    any.T = 0;
    const std::string now = shape_name(any) + "/" + std::to_string(w.keep);
    if (now != shape) shape = now, known = KnownLengths();
    return known;
}

// Keeps only the results of the current and of the longest length; those of all lengths would take
// gigabytes.
Known &known_of(const Workload &w)
{
    KnownLengths &all = lengths_of(w);
    if (!all.of.count(w.T)) all.of.clear();
    return all.of[w.T];
}

template <class R>
void keep_longer(std::shared_ptr<oracle::Saved<R>> *longest,
                 const std::shared_ptr<oracle::Saved<R>> &one)
{
    if (!*longest || (*longest)->h.size() < one->h.size()) *longest = one;
}

const oracle::Saved<double> &truth_of(const Input &in)
{
    Known &k = known_of(in.w);
    auto &longest = lengths_of(in.w).longest;
    if (!k.truth)
        k.truth =
            std::make_shared<oracle::Saved<double>>(forward<double>(in, nullptr, longest.get()));
    keep_longer(&longest, k.truth);
    return *k.truth;
}

const oracle::Saved<float> &plain_of(const Input &in, OracleRound p)
{
    auto &found = known_of(in.w).plain[p];
    auto &longest = lengths_of(in.w).longest_plain[p];
    if (!found)
        found = std::make_shared<oracle::Saved<float>>(forward<float>(in, p, longest.get()));
    keep_longer(&longest, found);
    return *found;
}

double recurrence_flops(const Workload &w)
{
    return 8.0 * (double)(w.T * w.B) * (double)w.H * (double)w.H;
}

// Returns the bytes of the weights and of the tensors that a pass reads or writes once: gates
// twice, h or dy, c.
double recurrence_bytes(const Workload &w)
{
    return 4.0 * (4.0 * (double)(w.H * w.H) +
                  (8.0 + 1.0 + 1.0 + (w.keep < 1 ? 1.0 : 0.0)) * (double)(w.T * w.B * w.H));
}

std::shared_ptr<Launch> describe(Case *c, const LstmVariant *variant, const Workload &w,
                                 Precision p, bool backward)
{
    begin_variant(c, variant, p);
    auto launch = std::make_shared<Launch>(variant, w, p, backward);
    c->sets = sets, c->precision = p, c->T = w.T, c->words = w.T * (w.true_B ? w.true_B : w.B);
    c->flops = recurrence_flops(w), c->bytes = recurrence_bytes(w);
    c->label = launch->label(), c->plan = launch->plan_text();
    return launch;
}

// The tensors of one input set.
struct Set {
    Input in;
    Shared<float> gates, kept, h, c, y, dy, dh, dc;
};

} // namespace

LstmLaunch Launch::args() const
{
    LstmLaunch a = {};
    if (scratch) a.plan = &plan, a.scratch = scratch->get(), a.poll_limit = poll_limit;
    return a;
}

std::string precision_refused(const LstmVariant *variant, Precision p)
{
    const LstmFootprint *f = variant->footprint;
    std::string has;
    for (Precision one : {Precision::F32, Precision::TF32, Precision::BF16}) {
        // A variant that launches at every step has cuBLAS's precisions.
        const bool there = f->kind == KIND_STEPWISE ? one != Precision::BF16
                                                    : f->precisions >> lstm_precision_of(one) & 1;
        if (there && one == p) return "";
        if (there) has += (has.empty() ? "" : " or ") + std::string(name_of(one));
    }
    return std::string(f->name) + " computes in " + has + ", not " + name_of(p);
}

LstmPrecision lstm_precision_of(Precision p)
{
    return p == Precision::TF32   ? PRECISION_TF32
           : p == Precision::BF16 ? PRECISION_BF16
                                  : PRECISION_F32;
}

void begin_variant(Case *c, const LstmVariant *variant, Precision p)
{
    const std::string refused = precision_refused(variant, p);
    if (!refused.empty()) throw Refused(refused);
    const auto unprepared = gpu.unprepared.find(variant->prepare);
    if (unprepared != gpu.unprepared.end())
        fail(std::string(variant->footprint->name) +
             " could not be prepared: " + cudaGetErrorString(unprepared->second));
    if (variant == &cublas_tuned) tuned_begin(p), c->late_label = tuned_label;
}

static const LstmVariant &variant_of_kind(LstmKind kind)
{
    int i = 0;
    while (lstm_variants[i]->footprint->kind != kind) i++;
    return *lstm_variants[i];
}

static LstmFootprint footprint_by_flags()
{
    LstmFootprint f = *variant_of_kind(KIND_MMA).footprint;
    f.name = "mma_flag", f.summary = "mma, exchange by flags";
    return f;
}
static const LstmFootprint flag_footprint = footprint_by_flags();

static LstmVariant variant_by_flags()
{
    LstmVariant v = variant_of_kind(KIND_MMA);
    v.footprint = &flag_footprint;
    return v;
}
const LstmVariant mma_flag = variant_by_flags();

Launch::Launch(const LstmVariant *variant, const Workload &w, Precision p, bool backward)
    : variant(variant), shape{w.T, w.B, w.H, lstm_precision_of(p)}
{
    const LstmFootprint *footprint = variant->footprint;
    if (!footprint->tile[backward]) return;
    PlanOverride forced = {};
    CostConstants constants = {};
    Error e = {};
    if (plan_override_env(&forced, &e) || cost_constants(&gpu.facts, nullptr, &constants, &e))
        fail(e.text);
    if (variant == &mma_flag) forced.exchange = EXCHANGE_FLAG;
    if (lstm_plan(&gpu.facts, &shape, footprint, backward, &forced, &constants, &plan, &e))
        throw Refused(e.text);
    const int planned = plan.replicas * plan.blocks;
    int held = 0;
    CHECK(variant->resident_blocks(&plan, &held));
    if (held < planned)
        throw Refused("the plan needs " + std::to_string(planned) +
                      " co-resident blocks; this GPU holds " + std::to_string(held) +
                      " of the compiled kernel");
    scratch = zeros<char>((int64_t)plan.scratch_bytes);
}

void Launch::pack(const Workload &w, const float *w_hh)
{
    if (scratch && variant->footprint->packed && !plan.backward) {
        packed = device_alloc<float>(4 * w.H * w.H);
        CHECK(lstm_pack(gpu.context.stream, w.H, w_hh, packed->get()));
    }
    if (scratch && plan.precision == PRECISION_BF16) {
        tiles = device_alloc<char>((int64_t)tensor_copy_bytes(w.H));
        CHECK(lstm_pack_tiles(gpu.context.stream, w.H, w_hh, tiles->get()));
    }
    gpu.wait();
}

std::string Launch::label() const
{
    if (!scratch) return "";
    return "grid=" + std::to_string(plan.replicas) + "x" + std::to_string(plan.blocks) +
           (plan.cluster > 1 ? " cluster=" + std::to_string(plan.cluster) : "") +
           (plan.exchange == EXCHANGE_WORDS ? " exchange=words" : "") +
           " threads=" + std::to_string(plan.threads) + " tile=" + std::to_string(plan.tile) +
           " resident=" + std::to_string(plan.resident) + " shared=" + std::to_string(plan.shared) +
           " streamed=" + std::to_string(plan.streamed);
}

std::string Launch::plan_text() const
{
    char text[PLAN_TEXT] = "";
    if (scratch) ::plan_text(&plan, text, sizeof text);
    return text;
}

std::shared_ptr<Case> forward_case(const LstmVariant *variant, const Workload &w, Precision p)
{
    auto c = std::make_shared<Case>();
    auto launch = describe(c.get(), variant, w, p, false);
    auto data = std::make_shared<std::vector<Set>>();
    const int64_t row = w.B * w.H;
    for (int s = 0; s < sets; s++) {
        Set d;
        d.in = input_of(w, (uint32_t)s);
        d.kept = device_copy(d.in.x_proj), d.gates = device_alloc<float>(w.T * w.B * 4 * w.H);
        d.h = device_alloc<float>((w.T + 1) * row), d.c = device_alloc<float>((w.T + 1) * row);
        d.y = device_alloc<float>(w.T * row);
        data->push_back(d);
    }
    auto w_hh = device_copy((*data)[0].in.w_hh), b_ih = device_copy((*data)[0].in.b_ih),
         b_hh = device_copy((*data)[0].in.b_hh);
    launch->pack(w, w_hh->get());
    c->poison = [data, row](int s) {
        Set &d = (*data)[(size_t)s];
        d.h->poison(), d.c->poison(), d.y->poison();
        upload(d.h->get(), d.in.h0.data(), (size_t)row * 4);
        upload(d.c->get(), d.in.c0.data(), (size_t)row * 4);
    };
    c->restore = [data](int s) {
        (*data)[(size_t)s].gates->copy_from(*(*data)[(size_t)s].kept, gpu.context.stream);
    };
    c->run = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        LstmForward a = {};
        a.shape = launch->shape;
        a.w_hh = w_hh->get(), a.b_ih = b_ih->get(), a.b_hh = b_hh->get();
        a.w_packed = launch->packed ? launch->packed->get() : nullptr;
        a.w_tiles = launch->tiles ? launch->tiles->get() : nullptr;
        a.gates = d.gates->get(), a.h = d.h->get(), a.c = d.c->get();
        a.output = mask_site(w, 1);
        a.y = a.output.on ? d.y->get() : nullptr;
        a.launch = launch->args();
        return variant->forward(&gpu.context, &a);
    };
    c->check = [data, w, row, operand = round_of(variant, p, false)](int s) {
        Set &d = (*data)[(size_t)s];
        Verdict all;
        if (s > 0 && !spoil)
            // only the first set is compared with the loops; the others differ only in their values
            return all;
        const oracle::Saved<double> &truth = truth_of((*data)[0].in);
        const oracle::Saved<float> &plain = plain_of((*data)[0].in, operand);
        join(&all, compare("gates", d.gates->host(), truth.gates, plain.gates, 2, of_gates(w)));
        join(&all, compare("c", d.c->host(), truth.c, plain.c, 2, of_units(w)));
        join(&all, compare("h", d.h->host(), truth.h, plain.h, 2, of_units(w)));
        if (w.keep < 1)
            join(&all, compare("y", d.y->host(), masked<double>(w, truth.h.data() + row),
                               masked<float>(w, plain.h.data() + row), 2, of_units(w)));
        return all;
    };
    return c;
}

std::shared_ptr<Case> backward_case(const LstmVariant *variant, const Workload &w, Precision p)
{
    auto c = std::make_shared<Case>();
    auto launch = describe(c.get(), variant, w, p, true);
    auto data = std::make_shared<std::vector<Set>>();
    for (int s = 0; s < sets; s++) {
        Set d;
        d.in = input_of(w, (uint32_t)s);
        // A pass takes the same time with another set's saved tensors; the checked set has its own.
        const oracle::Saved<float> &saved = plain_of(s == 0 ? d.in : (*data)[0].in, nullptr);
        d.kept = device_copy(saved.gates), d.gates = device_alloc<float>(w.T * w.B * 4 * w.H);
        d.h = device_copy(saved.h), d.c = device_copy(saved.c), d.dy = device_copy(d.in.dy);
        d.dh = device_alloc<float>(w.B * w.H), d.dc = device_alloc<float>(w.B * w.H);
        data->push_back(d);
    }
    auto w_hh = device_copy((*data)[0].in.w_hh);
    launch->pack(w, w_hh->get());
    c->poison = [data](int s) { (*data)[(size_t)s].dh->poison(), (*data)[(size_t)s].dc->poison(); };
    c->restore = [data](int s) {
        (*data)[(size_t)s].gates->copy_from(*(*data)[(size_t)s].kept, gpu.context.stream);
    };
    c->run = [=](int s) {
        const Set &d = (*data)[(size_t)s];
        LstmBackward a = {};
        a.shape = launch->shape;
        a.w_tiles = launch->tiles ? launch->tiles->get() : nullptr;
        a.w_hh = w_hh->get(), a.h = d.h->get(), a.c = d.c->get(), a.dy = d.dy->get();
        a.gates = d.gates->get(), a.dh = d.dh->get(), a.dc = d.dc->get();
        a.output = mask_site(w, 1);
        a.launch = launch->args();
        return variant->backward(&gpu.context, &a);
    };
    c->check = [data, w, operand = round_of(variant, p, true)](int s) {
        if (s > 0 && !spoil) return Verdict();
        const Input &in = (*data)[0].in;
        const oracle::Saved<float> &saved = plain_of(in, nullptr);
        Known &k = known_of(w);
        if (!k.truth_back)
            k.truth_back =
                std::make_shared<std::vector<double>>(backward<double>(in, saved, nullptr));
        auto &plain = k.plain_back[operand];
        if (!plain)
            plain = std::make_shared<std::vector<float>>(backward<float>(in, saved, operand));
        return compare("dgates", (*data)[(size_t)s].gates->host(), *k.truth_back, *plain, 3,
                       of_gates(w));
    };
    return c;
}

} // namespace bench_gpu
