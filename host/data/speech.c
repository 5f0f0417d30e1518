#include "speech.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"

const int64_t speech_utterances[SPEECH_SPLITS] = {600, 150, 300};

static const uint64_t seed = 14092329;
/* Philox subsequences; split s draws from SUB_SPEECH + s. synthetic.c and parallel.c do not use
 * them. scenes.c does, with the same seed, but no model reads both scenes and utterances. */
enum { SUB_VOICE = 400, SUB_SPEECH = 401 };
enum { WORDS_PER_UTTERANCE = 8192 }; /* of a subsequence: more than an utterance draws */
/* standard deviation of the noise; formants are less than 3 high */
static const double deviation = 1.6;
enum { SILENCE_HOLD = 28 }; /* in 32nds */

typedef struct Draws {
    uint64_t sub, q; /* q: index of the next word of the subsequence */
} Draws;

static uint32_t draw_word(Draws *d)
{
    uint64_t i = d->q++;
    return philox_block(seed, d->sub, i >> 2).word[i & 3];
}

/* Draws one of 0 .. n-1 with equal probability. */
static int draw(Draws *d, int n) { return (int)((uint64_t)draw_word(d) * (uint64_t)n >> 32); }

/* Draws a number strictly between 0 and 1. */
static double draw_unit(Draws *d) { return (draw_word(d) + 0.5) / 4294967296.0; }

/* ---- the voice ---- */

typedef struct Formant {
    double place, height; /* place in bins; height above the slope */
} Formant;

enum { FORMANTS = 3 };
static const double pi = 3.14159265358979323846;

static void formants_draw(Draws *d, Formant f[SPEECH_V][FORMANTS])
{
    static const double low[FORMANTS] = {1.5, 6, 12}, width[FORMANTS] = {5, 6.5, 5};
    for (int p = 0; p < SPEECH_PHONES; p++)
        for (int k = 0; k < FORMANTS; k++) {
            double place = low[k] + width[k] * draw_unit(d), glide = 3 * (draw_unit(d) - 0.5);
            double height = 1.2 + 1.8 * draw_unit(d);
            /* The formant passes through its place in the middle state, where it is loudest. */
            for (int s = 0; s < SPEECH_STATES; s++)
                f[1 + SPEECH_STATES * p + s][k] =
                    (Formant){place + glide * (s - 1), height * (s == 1 ? 1 : 0.75)};
        }
}

static double spectrum_at(const Formant *f, bool silent, double tract, double slope, double bin)
{
    double x = slope * (0.5 - (bin + 0.5) / SPEECH_F);
    for (int k = 0; !silent && k < FORMANTS; k++) {
        double distance = (bin - tract * f[k].place) / 1.3;
        x += f[k].height * exp(-0.5 * distance * distance);
    }
    return x;
}

void speech_voice(SpeechVoice *v)
{
    Draws d = {SUB_VOICE, 0};
    Formant formant[SPEECH_V][FORMANTS] = {{{0, 0}}};
    formants_draw(&d, formant);
    memset(v, 0, sizeof *v);
    v->hold[0] = SILENCE_HOLD;
    for (int label = 1; label < SPEECH_V; label++) v->hold[label] = 16 + draw(&d, 8);
    for (int w = 0; w < SPEECH_WORDS; w++) {
        v->phones[w] = 2 + draw(&d, 2);
        for (int i = 0; i < v->phones[w]; i++) v->phone[w][i] = (int8_t)draw(&d, SPEECH_PHONES);
    }
    for (int speaker = 0; speaker < SPEECH_SPEAKERS; speaker++) {
        double tract = 0.86 + 0.04 * (speaker % SPEECH_TRACTS),
               slope = speaker / SPEECH_TRACTS ? 1.5 : 0;
        for (int label = 0; label < SPEECH_V; label++)
            for (int bin = 0; bin < SPEECH_F; bin++)
                v->spectrum[speaker][label][bin] =
                    (float)(rint(64 * spectrum_at(formant[label], !label, tract, slope, bin)) / 64);
    }
}

void speech_name(int32_t label, char name[16])
{
    if (!label) snprintf(name, 16, "sil");
    else
        snprintf(name, 16, "p%d_%d", (int)(label - 1) / SPEECH_STATES % 1000,
                 (int)(label - 1) % SPEECH_STATES);
}

/* ---- utterances ---- */

/* The position of an utterance within the words; word -1: in silence. */
typedef struct Position {
    int word, phone, state;
} Position;

static int32_t label_of(const SpeechVoice *v, Position p)
{
    return p.word < 0 ? 0 : 1 + SPEECH_STATES * v->phone[p.word][p.phone] + p.state;
}

static Position next_of(const SpeechVoice *v, Position p, Draws *d)
{
    if (draw(d, 32) < v->hold[label_of(v, p)]) return p;
    if (p.word >= 0 && ++p.state < SPEECH_STATES) return p;
    if (p.word >= 0 && ++p.phone < v->phones[p.word]) return (Position){p.word, p.phone, 0};
    if (p.word >= 0 && draw(d, 4) == 0) return (Position){-1, 0, 0};
    return (Position){draw(d, SPEECH_WORDS), 0, 0};
}

/* Draws two independent normal numbers (Box and Muller). */
static void draw_normal(Draws *d, double x[2])
{
    double radius = sqrt(-2 * log(draw_unit(d))), angle = 2 * pi * draw_unit(d);
    x[0] = radius * cos(angle), x[1] = radius * sin(angle);
}

int64_t speech_utterance(const SpeechVoice *v, int split, int64_t i, float *features,
                         int32_t *labels)
{
    Draws d = {SUB_SPEECH + (uint64_t)split, WORDS_PER_UTTERANCE * (uint64_t)i};
    int64_t frames = SPEECH_SHORTEST + draw(&d, SPEECH_LONGEST - SPEECH_SHORTEST + 1);
    int speaker = draw(&d, SPEECH_SPEAKERS);
    Position at = {-1, 0, 0};
    for (int64_t t = 0; t < frames; t++) {
        labels[t] = label_of(v, at);
        for (int bin = 0; bin < SPEECH_F; bin += 2) {
            double noise[2];
            draw_normal(&d, noise);
            for (int k = 0; k < 2; k++)
                features[t * SPEECH_F + bin + k] =
                    (float)(rint(64 * (v->spectrum[speaker][labels[t]][bin + k] +
                                       deviation * noise[k])) /
                            64);
        }
        at = next_of(v, at, &d);
    }
    return frames;
}

/* ---- the posterior ---- */

/* The states of the generator in one array: silence first, then those of each word in order. */
enum { POSITIONS = 1 + SPEECH_WORDS * SPEECH_WORD_PHONES * SPEECH_STATES };

typedef struct Chain {
    int n;
    int32_t label[POSITIONS];
    bool first[POSITIONS], last[POSITIONS]; /* whether it is the first, or last, of a word */
    double hold[POSITIONS];
} Chain;

static void chain_make(const SpeechVoice *v, Chain *c)
{
    *c = (Chain){.n = 1};
    c->hold[0] = SILENCE_HOLD / 32.0;
    for (int w = 0; w < SPEECH_WORDS; w++)
        for (int p = 0; p < v->phones[w]; p++)
            for (int s = 0; s < SPEECH_STATES; s++) {
                int i = c->n++;
                c->label[i] = label_of(v, (Position){w, p, s});
                c->hold[i] = v->hold[c->label[i]] / 32.0;
                c->first[i] = !p && !s;
                c->last[i] = p + 1 == v->phones[w] && s + 1 == SPEECH_STATES;
            }
}

/* Advances the probabilities of the positions by one frame. */
static void chain_step(const Chain *c, const double *now, double *next)
{
    /* probability that a word begins; that a word has ended */
    double begin = now[0] * (1 - c->hold[0]), ended = 0;
    for (int i = 1; i < c->n; i++)
        if (c->last[i]) ended += now[i] * (1 - c->hold[i]);
    next[0] = now[0] * c->hold[0] + ended / 4;
    begin += ended * 3 / 4;
    for (int i = 1; i < c->n; i++)
        next[i] = now[i] * c->hold[i] +
                  (c->first[i] ? begin / SPEECH_WORDS : now[i - 1] * (1 - c->hold[i - 1]));
}

/* Computes likelihood (SPEECH_SPEAKERS,SPEECH_V) of a frame x (SPEECH_F), up to a common factor. */
static void frame_likelihood(const SpeechVoice *v, const float *x, double *likelihood)
{
    double most = -INFINITY;
    for (int i = 0; i < SPEECH_SPEAKERS * SPEECH_V; i++) {
        const float *mean = v->spectrum[i / SPEECH_V][i % SPEECH_V];
        double sum = 0;
        for (int bin = 0; bin < SPEECH_F; bin++)
            sum += ((double)x[bin] - mean[bin]) * ((double)x[bin] - mean[bin]);
        likelihood[i] = -sum / (2 * deviation * deviation);
        most = fmax(most, likelihood[i]);
    }
    for (int i = 0; i < SPEECH_SPEAKERS * SPEECH_V; i++) likelihood[i] = exp(likelihood[i] - most);
}

int speech_posterior(const SpeechVoice *v, const float *features, int64_t frames, double *posterior,
                     Error *e)
{
    typedef struct Work {
        Chain chain;
        double alpha[SPEECH_SPEAKERS][POSITIONS], next[POSITIONS],
            likelihood[SPEECH_SPEAKERS * SPEECH_V];
    } Work;
    Work *w = calloc(1, sizeof *w);
    if (!w)
        return error_set(e, EXIT_FAILED,
                         "memory ran out while the best possible accuracy was computed");
    const Chain *c = &w->chain;
    chain_make(v, &w->chain);
    for (int s = 0; s < SPEECH_SPEAKERS; s++) w->alpha[s][0] = 1.0 / SPEECH_SPEAKERS;
    for (int64_t t = 0; t < frames; t++) {
        double *p = posterior + t * SPEECH_V, sum = 0;
        memset(p, 0, SPEECH_V * sizeof *p);
        frame_likelihood(v, features + t * SPEECH_F, w->likelihood);
        for (int s = 0; s < SPEECH_SPEAKERS; s++) {
            if (t) {
                chain_step(c, w->alpha[s], w->next);
                memcpy(w->alpha[s], w->next, sizeof w->next);
            }
            for (int i = 0; i < c->n; i++) {
                w->alpha[s][i] *= w->likelihood[s * SPEECH_V + c->label[i]];
                p[c->label[i]] += w->alpha[s][i];
                sum += w->alpha[s][i];
            }
        }
        for (int k = 0; k < SPEECH_V; k++) p[k] /= sum;
        for (int s = 0; s < SPEECH_SPEAKERS; s++)
            for (int i = 0; i < c->n; i++) w->alpha[s][i] /= sum;
    }
    free(w);
    return EXIT_DONE;
}

int speech_best(int split, SpeechBest *best, Error *e)
{
    typedef struct Work {
        SpeechVoice voice;
        float features[SPEECH_LONGEST * SPEECH_F];
        int32_t labels[SPEECH_LONGEST];
        double posterior[SPEECH_LONGEST * SPEECH_V];
    } Work;
    Work *w = malloc(sizeof *w);
    if (!w)
        return error_set(e, EXIT_FAILED,
                         "memory ran out while the best possible accuracy was computed");
    int code = EXIT_DONE;
    memset(best, 0, sizeof *best);
    speech_voice(&w->voice);
    for (int64_t i = 0; !code && i < speech_utterances[split]; i++) {
        int64_t frames = speech_utterance(&w->voice, split, i, w->features, w->labels);
        code = speech_posterior(&w->voice, w->features, frames, w->posterior, e);
        for (int64_t t = 0; !code && t < frames; t++) {
            const double *p = w->posterior + t * SPEECH_V;
            int likeliest = 0;
            for (int k = 1; k < SPEECH_V; k++)
                if (p[k] > p[likeliest]) likeliest = k;
            bool hit = likeliest == w->labels[t], voiced = w->labels[t] != 0;
            best->frames++, best->hits += hit;
            best->voiced += voiced, best->voiced_hits += voiced && hit;
            best->nats -= log(p[w->labels[t]]);
        }
    }
    free(w);
    return code;
}
