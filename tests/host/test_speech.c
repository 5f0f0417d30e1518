/* Tests the built-in utterances. They are the same on every machine and as speech.h defines them.
 * Their posterior is compared with sums over every path and with the labels' own frequencies, and
 * is better than any posterior of a single frame. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sha2.h>

#include "host/data/speech.h"

static SpeechVoice voice;
static float x[SPEECH_LONGEST * SPEECH_F];
static int32_t labels[SPEECH_LONGEST];
static double posterior[SPEECH_LONGEST * SPEECH_V];

static int set_up(void **state)
{
    (void)state;
    speech_voice(&voice);
    return 0;
}

/* Features are multiples of 1/64 and only by accident on a rounding boundary, so a sine that
 * differs in its last bit changes no feature. */
static void known_bits(void **state)
{
    (void)state;
    SHA2_CTX sha;
    char hex[65];
    SHA256Init(&sha);
    for (int64_t i = 0; i < speech_utterances[1]; i++) {
        int64_t n = speech_utterance(&voice, 1, i, x, labels);
        assert_true(n >= SPEECH_SHORTEST && n <= SPEECH_LONGEST);
        SHA256Update(&sha, (const uint8_t *)x, (size_t)(n * SPEECH_F) * sizeof *x);
        SHA256Update(&sha, (const uint8_t *)labels, (size_t)n * sizeof *labels);
    }
    SHA256End(&sha, hex);
    assert_string_equal(hex, "5d98353f76e6f33111fe111fb16225256218616e322236b23c292bbede5c82ff");
    float y[SPEECH_LONGEST * SPEECH_F];
    int32_t again[SPEECH_LONGEST];
    int64_t n = speech_utterance(&voice, 2, 7, x, labels);
    assert_int_equal(speech_utterance(&voice, 2, 7, y, again), n);
    assert_memory_equal(x, y, (size_t)(n * SPEECH_F) * sizeof *x);
    assert_int_not_equal(speech_utterance(&voice, 0, 7, y, again), 0);
    assert_true(memcmp(x, y, sizeof *x * 60) != 0); /* splits differ */
}

/* After a label comes the same label, the next state of its phone, or another phone or silence; the
 * label repeats with the probability `hold`. */
static void durations(void **state)
{
    (void)state;
    int64_t stays[SPEECH_V] = {0}, seen[SPEECH_V] = {0};
    for (int64_t i = 0; i < speech_utterances[0]; i++) {
        int64_t n = speech_utterance(&voice, 0, i, x, labels);
        assert_int_equal(labels[0], 0);
        for (int64_t t = 0; t + 1 < n; t++) {
            int32_t a = labels[t], b = labels[t + 1];
            seen[a]++;
            stays[a] += a == b;
            assert_true(a >= 0 && a < SPEECH_V);
            if (a == b) continue;
            bool last = a && (a - 1) % SPEECH_STATES == SPEECH_STATES - 1,
                 begins = b && (b - 1) % SPEECH_STATES == 0;
            assert_true((a && !last) ? b == a + 1 : (begins || (b == 0 && last)));
        }
    }
    for (int k = 0; k < SPEECH_V; k++) {
        double p = voice.hold[k] / 32.0, n = (double)seen[k];
        if (!seen[k]) continue; /* a phone that no word has */
        /* The share is within five standard deviations of the probability. */
        assert_true(fabs((double)stays[k] / n - p) < 5 * sqrt(p * (1 - p) / n));
    }
}

/* A place in a word, from which the posterior of a few frames is computed by its definition: the
 * sum over every path of words' states. */
typedef struct Path {
    int word, phone, state;
} Path;

static int32_t label_of(Path p)
{
    return p.word < 0 ? 0 : 1 + SPEECH_STATES * voice.phone[p.word][p.phone] + p.state;
}

static double density(int speaker, int32_t label, const float *frame)
{
    double sum = 0;
    for (int b = 0; b < SPEECH_F; b++) sum += pow(frame[b] - voice.spectrum[speaker][label][b], 2);
    return exp(-sum / (2 * 1.6 * 1.6) + 12); /* e^12, which cancels, keeps products in range */
}

static void sum_paths(int speaker, Path at, double p, int64_t t, int64_t last, double *to)
{
    int32_t label = label_of(at);
    p *= density(speaker, label, x + t * SPEECH_F);
    if (t == last) {
        to[label] += p;
        return;
    }
    double hold = voice.hold[label] / 32.0, leave = p * (1 - hold);
    sum_paths(speaker, at, p * hold, t + 1, last, to);
    Path next = at;
    if (at.word >= 0 && ++next.state < SPEECH_STATES) {
        sum_paths(speaker, next, leave, t + 1, last, to);
        return;
    }
    next.state = 0;
    if (at.word >= 0 && ++next.phone < voice.phones[at.word]) {
        sum_paths(speaker, next, leave, t + 1, last, to);
        return;
    }
    double word = at.word >= 0 ? leave * 3 / 4 : leave;
    if (at.word >= 0) sum_paths(speaker, (Path){-1, 0, 0}, leave / 4, t + 1, last, to);
    for (int w = 0; w < SPEECH_WORDS; w++)
        sum_paths(speaker, (Path){w, 0, 0}, word / SPEECH_WORDS, t + 1, last, to);
}

static void every_path(void **state)
{
    (void)state;
    Error e;
    speech_utterance(&voice, 0, 3, x, labels);
    assert_int_equal(speech_posterior(&voice, x, 9, posterior, &e), 0);
    for (int64_t t = 0; t < 9; t++) {
        double p[SPEECH_V] = {0}, sum = 0;
        for (int s = 0; s < SPEECH_SPEAKERS; s++) sum_paths(s, (Path){-1, 0, 0}, 1, 0, t, p);
        for (int k = 0; k < SPEECH_V; k++) sum += p[k];
        for (int k = 0; k < SPEECH_V; k++)
            assert_true(fabs(posterior[t * SPEECH_V + k] - p[k] / sum) < 1e-12);
    }
}

/* The posterior is calibrated: of all labels to which it gives 20 to 30 per cent, about a quarter
 * are right. Its accuracy is that of the table in RESULTS.md. */
static void calibration(void **state)
{
    (void)state;
    Error e;
    double expected[10] = {0}, squares[10] = {0};
    int64_t right[10] = {0};
    for (int64_t i = 0; i < speech_utterances[2]; i++) {
        int64_t n = speech_utterance(&voice, 2, i, x, labels);
        assert_int_equal(speech_posterior(&voice, x, n, posterior, &e), 0);
        /* Frames of one utterance are correlated, so one frame of each utterance is used. */
        int64_t t = i % n;
        for (int k = 0; k < SPEECH_V; k++) {
            double p = posterior[t * SPEECH_V + k];
            int bin = (int)(p * 10 * 0.999999);
            expected[bin] += p, squares[bin] += p * (1 - p);
            right[bin] += labels[t] == k;
        }
    }
    for (int bin = 0; bin < 10; bin++)
        assert_true(fabs((double)right[bin] - expected[bin]) < 4 * sqrt(squares[bin]) + 1e-9);
    SpeechBest best;
    assert_int_equal(speech_best(2, &best, &e), 0);
    assert_true(best.frames == 16332 && best.hits == 11871 && best.voiced == 13033 &&
                best.voiced_hits == 8657);
    assert_true(fabs(best.nats / (double)best.frames - 0.762760) < 1e-5);
}

static void names(void **state)
{
    (void)state;
    char name[16];
    speech_name(0, name);
    assert_string_equal(name, "sil");
    speech_name(1, name);
    assert_string_equal(name, "p0_0");
    speech_name(SPEECH_V - 1, name);
    assert_string_equal(name, "p9_2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_bits),  cmocka_unit_test(durations), cmocka_unit_test(every_path),
        cmocka_unit_test(calibration), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests_name("speech", tests, set_up, NULL);
}
