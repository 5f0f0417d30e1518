/* speech: the built-in utterances with a label for every frame, from a small generator. Its exact
 * posterior is known, and so is the best possible accuracy of a listener who has heard only the
 * frames so far.
 *
 * A phone has three states; 10 phones make 24 words of two or three phones. An utterance begins in
 * silence. Silence is followed by a word; a word is followed by silence (1/4) or by another word,
 * all words equally likely. Each state has its own probability of being held from frame to frame,
 * silence 7/8, so durations are geometric. The spectrum of a state has 20 bins: three formants,
 * peaks whose places and heights are the state's, over a slope. A speaker has one of 8 vocal tract
 * lengths, which moves all formants, and one of 2 slopes, all equally likely and drawn anew for
 * every utterance. The noise is normal and independent in every bin of every frame. An utterance is
 * cut at a length that is drawn beforehand and carries no information about its words.
 *
 * A single frame is therefore ambiguous: the speaker and the word must be inferred from the frames
 * before it, and there are few enough utterances that a network can memorise their noise. */
#ifndef PLSTM_SPEECH_H
#define PLSTM_SPEECH_H

#include <stdint.h>

#include "host/base/error.h"

enum {
    SPEECH_SPLITS = 3,
    SPEECH_PHONES = 10,
    SPEECH_STATES = 3,                            /* per phone */
    SPEECH_V = 1 + SPEECH_STATES * SPEECH_PHONES, /* labels: 0 silence, 1 + 3 * phone + state */
    SPEECH_F = 20,                                /* bins */
    SPEECH_SHORTEST = 30,
    SPEECH_LONGEST = 80, /* frames */
};
extern const int64_t speech_utterances[SPEECH_SPLITS]; /* of train, valid, test */

/* The generator's tables. */
enum {
    SPEECH_WORDS = 24,
    SPEECH_WORD_PHONES = 3,
    SPEECH_TRACTS = 8,
    SPEECH_SLOPES = 2,
    SPEECH_SPEAKERS = SPEECH_TRACTS * SPEECH_SLOPES
};
typedef struct SpeechVoice {
    int phones[SPEECH_WORDS]; /* number of phones of each word */
    int8_t phone[SPEECH_WORDS][SPEECH_WORD_PHONES];
    int hold[SPEECH_V]; /* in 32nds: the probability that a state is held */
    float spectrum[SPEECH_SPEAKERS][SPEECH_V][SPEECH_F]; /* without noise */
} SpeechVoice;

/* Computes the tables from the generator's fixed seed. */
void speech_voice(SpeechVoice *v);

/* Fills features (SPEECH_LONGEST,SPEECH_F) and labels (SPEECH_LONGEST) with the frames of utterance
 * i of a split and returns their number. The seed is fixed, and features are multiples of 1/64, so
 * that they are the same on every machine. */
int64_t speech_utterance(const SpeechVoice *v, int split, int64_t i, float *features,
                         int32_t *labels);

/* Writes the name of a label: "sil", "p3_1". */
void speech_name(int32_t label, char name[16]);

/* Computes posterior (frames,SPEECH_V), the probability of each label given the features
 * (frames,SPEECH_F) of all frames up to its own, by the forward recursion over the words' states
 * for every speaker. EXIT_FAILED: memory ran out. */
int speech_posterior(const SpeechVoice *v, const float *features, int64_t frames, double *posterior,
                     Error *e);

/* Sums over the frames of a whole split: hits of the posterior's likeliest label, and nats, -log of
 * the posterior of the true label. */
typedef struct SpeechBest {
    int64_t frames, hits, voiced, voiced_hits; /* voiced: frames other than silence */
    double nats;
} SpeechBest;
/* Computes these sums for a split. EXIT_FAILED: memory ran out. */
int speech_best(int split, SpeechBest *best, Error *e);

#endif
