// axes: see axes.h.
#include "axes.h"

#include <algorithm>
#include <stdexcept>

namespace axes
{

namespace
{

const struct {
    Precision precision;
    const char *name;
} precision_names[] = {{Precision::F32, "f32"},
                       {Precision::TF32, "tf32"},
                       {Precision::BF16, "bf16"},
                       {Precision::F16, "f16"}};

// The paper's three models, and a shape for which cuDNN's times are published (H100, float16).
const std::vector<Workload> presets = {
    {200, 20, 20, 1.0, 0.1, 5}, {650, 20, 35, 0.5, 0.05, 5}, {1500, 20, 35, 0.35, 0.04, 10}};
const Workload anchor = {768, 16, 1024, 1.0, 0.05, 5};
const std::vector<Workload> tiny_presets = {{20, 3, 5, 1.0, 0.1, 5}, {36, 2, 6, 0.5, 0.05, 5}};
const std::vector<std::int64_t> fit_lengths = {20, 35, 70, 140}, tiny_lengths = {3};
const std::int64_t most = 1 << 20; // the largest size that an option accepts

[[noreturn]] void wrong(const std::string &option, const std::string &takes,
                        const std::string &found)
{
    throw std::invalid_argument(option + " takes " + takes + ", separated by commas, not '" +
                                found + "'");
}

std::vector<std::string> split(const std::string &text)
{
    std::vector<std::string> parts(1);
    for (char c : text)
        if (c == ',') parts.push_back("");
        else parts.back() += c;
    return parts;
}

std::vector<std::int64_t> sizes(const std::string &option, const std::string &text)
{
    std::vector<std::int64_t> found;
    for (const std::string &part : split(text)) {
        if (part.empty() || part.size() > 7 ||
            part.find_first_not_of("0123456789") != std::string::npos || std::stoll(part) < 1 ||
            std::stoll(part) > most)
            wrong(option, "whole numbers from 1 to " + std::to_string(most), text);
        found.push_back(std::stoll(part));
    }
    return found;
}

std::vector<std::string> names(const std::string &option, const std::string &text)
{
    std::vector<std::string> found = split(text);
    if (std::count(found.begin(), found.end(), "")) wrong(option, "names", text);
    return found;
}

std::vector<Precision> precisions(const std::string &option, const std::string &text)
{
    std::vector<Precision> found;
    for (const std::string &part : split(text)) {
        size_t before = found.size();
        for (const auto &known : precision_names)
            if (part == known.name) found.push_back(known.precision);
        if (found.size() == before) wrong(option, "f32, tf32, bf16 or f16", text);
    }
    return found;
}

} // namespace

const char *name_of(Precision p)
{
    for (const auto &known : precision_names)
        if (known.precision == p) return known.name;
    return "";
}

std::string shape_name(const Workload &w)
{
    return "H:" + std::to_string(w.H) + "/B:" + std::to_string(w.B) + "/T:" + std::to_string(w.T);
}

bool take(Axes *axes, const std::string &argument)
{
    const size_t equals = argument.find('=');
    if (argument.rfind("--", 0) != 0 || equals == std::string::npos) return false;
    const std::string option = argument.substr(0, equals), text = argument.substr(equals + 1);
    if (option == "--h") axes->H = sizes(option, text);
    else if (option == "--b") axes->B = sizes(option, text);
    else if (option == "--t") axes->T = sizes(option, text);
    else if (option == "--variants") axes->variants = names(option, text);
    else if (option == "--precision") axes->precisions = precisions(option, text);
    else if (option == "--directions") {
        axes->directions = names(option, text);
        for (const std::string &d : axes->directions)
            if (d != "fwd" && d != "bwd" && d != "fwdbwd")
                wrong(option, "fwd, bwd or fwdbwd", text);
    } else return false;
    return true;
}

std::vector<Workload> workloads(const Axes &axes)
{
    std::vector<Workload> known = axes.tiny ? tiny_presets : presets, found;
    if (!axes.tiny) known.push_back(anchor);
    std::vector<Workload> bases;
    if (axes.H.empty()) bases = known;
    for (std::int64_t H : axes.H) {
        auto same =
            std::find_if(known.begin(), known.end(), [=](const Workload &w) { return w.H == H; });
        Workload w = same != known.end() ? *same : axes.tiny ? tiny_presets.back() : presets[1];
        w.H = H;
        bases.push_back(w);
    }
    for (Workload w : bases) {
        if (!axes.T.empty()) w.T = axes.T[0];
        for (std::int64_t B : axes.B.empty() ? std::vector<std::int64_t>{w.B} : axes.B) {
            w.B = B;
            found.push_back(w);
        }
    }
    return found;
}

std::vector<std::int64_t> lengths(const Axes &axes, const Workload &w)
{
    std::vector<std::int64_t> found = {w.T};
    const bool is_anchor = w.H == anchor.H && w.B == anchor.B && w.T == anchor.T;
    const std::vector<std::int64_t> more = !axes.T.empty() ? axes.T
                                           : axes.tiny     ? tiny_lengths
                                           : is_anchor     ? std::vector<std::int64_t>()
                                                           : fit_lengths;
    for (std::int64_t T : more)
        if (std::find(found.begin(), found.end(), T) == found.end()) found.push_back(T);
    return found;
}

Workload padded(const Axes &axes, const Workload &w)
{
    const std::int64_t H = axes.tiny ? 32 : 128, B = axes.tiny ? 4 : 8;
    Workload p = w;
    p.H = (w.H + H - 1) / H * H, p.B = (w.B + B - 1) / B * B;
    p.true_B = w.true_B ? w.true_B : w.B;
    return p;
}

} // namespace axes
