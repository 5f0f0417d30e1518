/* speech: the built-in utterances with a label for every frame, from a small generator of ours whose exact posterior is known, so that
 * the best possible accuracy of a listener who has heard only what came so far is known too.
 *
 * A phone has three states; 10 phones make 24 words of two or three. An utterance begins in silence; silence is followed by a
 * word, a word by silence (1/4) or by another word, each alike. A state is held from frame to frame with a probability of its own,
 * silence with 7/8, so durations are geometric. What is heard of a state is a spectrum of 20 bins: three formants, peaks whose places and
 * heights are the state's, over a slope. A speaker has one of 8 lengths of the vocal tract, which moves all formants, and one of 2
 * slopes, each alike and drawn anew for every utterance. Noise is normal, independent in every bin of every frame. An utterance
 * is cut at a length that is drawn beforehand and says nothing about its words.
 *
 * So a single frame is ambiguous: who speaks, and which word it is, must be gathered from the frames before, and there are few enough
 * utterances that a network can learn their noise by heart. */
#ifndef PLSTM_SPEECH_H
#define PLSTM_SPEECH_H

#include <stdint.h>

#include "host/base/error.h"

enum {
    SPEECH_SPLITS = 3,
    SPEECH_PHONES = 10,
    SPEECH_STATES = 3,                            /* of a phone */
    SPEECH_V = 1 + SPEECH_STATES * SPEECH_PHONES, /* labels: 0 silence, 1 + 3 phone + state */
    SPEECH_F = 20,                                /* bins */
    SPEECH_SHORTEST = 30,
    SPEECH_LONGEST = 80, /* frames */
};
extern const int64_t speech_utterances[SPEECH_SPLITS]; /* of train, valid, test */

/* The generator's tables, made from its seed in microseconds. */
enum {
    SPEECH_WORDS = 24,
    SPEECH_WORD_PHONES = 3,
    SPEECH_TRACTS = 8,
    SPEECH_SLOPES = 2,
    SPEECH_SPEAKERS = SPEECH_TRACTS * SPEECH_SLOPES
};
typedef struct SpeechVoice {
    int phones[SPEECH_WORDS]; /* of each word */
    int8_t phone[SPEECH_WORDS][SPEECH_WORD_PHONES];
    int hold[SPEECH_V]; /* in 32nds: the chance that a state goes on */
    float spectrum[SPEECH_SPEAKERS][SPEECH_V][SPEECH_F]; /* without noise */
} SpeechVoice;

void speech_voice(SpeechVoice *v);

/* Utterance i of a split: features (SPEECH_LONGEST,SPEECH_F) and labels (SPEECH_LONGEST) are filled with its frames, whose number is
 * returned. Fixed seed; features are multiples of 1/64, so that they are the same on every machine. */
int64_t speech_utterance(const SpeechVoice *v, int split, int64_t i, float *features,
                         int32_t *labels);

/* Name of a label: "sil", "p3_1". */
void speech_name(int32_t label, char name[16]);

/* posterior (frames,SPEECH_V): the probability of each label given the frames up to it and none behind it, by the forward
 * recursion over the words' states for every speaker. EXIT_FAILED: memory ran out. */
int speech_posterior(const SpeechVoice *v, const float *features, int64_t frames, double *posterior,
                     Error *e);

/* What the posterior makes of a whole split: its likeliest label each time, -log of the true one's probability. */
typedef struct SpeechBest {
    int64_t frames, hits, voiced, voiced_hits; /* voiced: without silence */
    double nats;
} SpeechBest;
int speech_best(int split, SpeechBest *best, Error *e);

#endif
