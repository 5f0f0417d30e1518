#include "parallel.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/philox.h"

const int64_t parallel_pairs[PARALLEL_SPLITS] = {4000, 500, 1000};

enum { NOUNS = 24, ADJECTIVES = 10, VERBS = 12, PREPOSITIONS = 4, ADVERBS = 6 };
enum { NOUN_WORDS = 3, OTHER_WORDS = 2 }; /* words among which the translator chooses */
enum { WORD_BYTES = 16, MAX_WORDS = 16 };

static const uint64_t seed = 14092329;
enum { SUB_TEXT = 300 }; /* + split: Philox subsequences that synthetic.c does not use */

/* ---- words ---- */

/* Writes a stem of two syllables with consonants from a family of 7. The stems of one family are
 * distinct for all i < 140. */
static void stem(char *out, const char *consonants, int i)
{
    static const char vowel[] = "aeiou";
    out[0] = consonants[i % 7];
    out[1] = vowel[i / 7 % 5];
    out[2] = consonants[(i / 35 + 3 * i + 1) % 7];
    out[3] = vowel[(i + i / 7) % 5];
    out[4] = 0;
}

static void word_make(char *out, const char *consonants, int i, const char *middle,
                      const char *ending)
{
    stem(out, consonants, i);
    strcat(out, middle);
    strcat(out, ending);
}

typedef struct NounPhrase {
    bool plural, definite;
    int noun, adjective; /* adjective -1: none */
} NounPhrase;

typedef struct Sentence {
    NounPhrase subject, object, other;
    /* preposition, adverb -1: none; without a preposition `other` is not used */
    int verb, preposition, adverb;
} Sentence;

typedef struct Words {
    int n;
    char word[MAX_WORDS][WORD_BYTES];
} Words;

static char *next(Words *w)
{
    assert(w->n < MAX_WORDS);
    return w->word[w->n++];
}

static int gender(int noun) { return (noun * 5 + noun / 4) % 2; }

/* [2 * definite + plural] */
static const char *const source_determiner[4] = {"a", "some", "the", "these"};
static const char *const source_preposition[PREPOSITIONS] = {"in", "on", "under", "with"};

static void source_noun(char *out, int i, bool plural)
{
    word_make(out, "bmpkstl", i, "n", plural ? "s" : "");
}
static void source_verb(char *out, int i, bool plural)
{
    word_make(out, "gdrvzmf", i, "p", plural ? "" : "s");
}
static void source_adjective(char *out, int i, bool plural)
{
    (void)plural, word_make(out, "kgdbnlt", i, "", "y");
}
static void source_adverb(char *out, int i, bool plural)
{
    (void)plural, word_make(out, "tsrlnkm", i, "", "ly");
}

static void source_phrase(Words *w, const NounPhrase *p)
{
    strcpy(next(w), source_determiner[2 * p->definite + p->plural]);
    if (p->adjective >= 0) source_adjective(next(w), p->adjective, false);
    source_noun(next(w), p->noun, p->plural);
}

static void source_words(Words *w, const Sentence *s)
{
    w->n = 0;
    source_phrase(w, &s->subject);
    source_verb(next(w), s->verb, s->subject.plural);
    source_phrase(w, &s->object);
    if (s->preposition >= 0) {
        strcpy(next(w), source_preposition[s->preposition]);
        source_phrase(w, &s->other);
    }
    if (s->adverb >= 0) source_adverb(next(w), s->adverb, false);
}

/* ---- the translator ---- */

/* The words that may stand at one place of the target sentence, and their probabilities. */
typedef struct Slot {
    int n;
    char word[NOUN_WORDS][WORD_BYTES];
    double p[NOUN_WORDS];
} Slot;

typedef struct Layout {
    int n;
    Slot slot[MAX_WORDS];
} Layout;

static Slot *slot_new(Layout *l, int n)
{
    static const double p[NOUN_WORDS + 1][NOUN_WORDS] = {{0}, {1}, {0.75, 0.25}, {0.5, 0.25, 0.25}};
    assert(l->n < MAX_WORDS);
    Slot *s = &l->slot[l->n++];
    s->n = n;
    memcpy(s->p, p[n], sizeof s->p);
    return s;
}

static void target_phrase(Layout *l, const NounPhrase *p)
{
    static const char *const determiner[2][2][2] = {{{"un", "lo"}, {"una", "la"}},
                                                    {{"uni", "li"}, {"une", "le"}}};
    static const char *const ending[2][2] = {{"o", "a"}, {"i", "e"}};
    int g = gender(p->noun);
    strcpy(slot_new(l, 1)->word[0], determiner[p->plural][g][p->definite]);
    Slot *slot = slot_new(l, NOUN_WORDS);
    for (int i = 0; i < NOUN_WORDS; i++)
        word_make(slot->word[i], "vfcrgzq", NOUN_WORDS * p->noun + i, "l", ending[p->plural][g]);
    if (p->adjective < 0) return;
    slot = slot_new(l, OTHER_WORDS);
    for (int i = 0; i < OTHER_WORDS; i++)
        word_make(slot->word[i], "pdbtmzs", OTHER_WORDS * p->adjective + i, "r",
                  ending[p->plural][g]);
}

static void target_other(Layout *l, const Sentence *s)
{
    static const char *const preposition[PREPOSITIONS] = {"ne", "su", "sot", "kon"};
    strcpy(slot_new(l, 1)->word[0], preposition[s->preposition]);
    target_phrase(l, &s->other);
}

/* Lays out the target sentence. The phrase with the preposition, if any, stands before the subject
 * if other_first is set, else after the object. */
static void layout_make(Layout *l, const Sentence *s, bool other_first)
{
    l->n = 0;
    if (s->adverb >= 0) word_make(slot_new(l, 1)->word[0], "nsdlkvm", s->adverb, "", "mente");
    if (s->preposition >= 0 && other_first) target_other(l, s);
    target_phrase(l, &s->subject);
    target_phrase(l, &s->object);
    if (s->preposition >= 0 && !other_first) target_other(l, s);
    Slot *slot = slot_new(l, OTHER_WORDS);
    for (int i = 0; i < OTHER_WORDS; i++)
        word_make(slot->word[i], "jhwkpgd", OTHER_WORDS * s->verb + i, "",
                  s->subject.plural ? "nt" : "t");
}

/* ---- the exact probability ---- */

static void words_split(Words *w, const char *line)
{
    w->n = 0;
    while (*line) {
        size_t length = strcspn(line, " ");
        if (w->n == MAX_WORDS || length >= WORD_BYTES) {
            w->n = 0; /* not a sentence of either language */
            return;
        }
        char *word = next(w);
        memcpy(word, line, length);
        word[length] = 0;
        line += length + (line[length] == ' ');
    }
}

static double layout_probability(const Layout *l, const Words *w)
{
    double p = w->n == l->n;
    for (int i = 0; i < l->n && p > 0; i++) {
        const Slot *s = &l->slot[i];
        double here = 0;
        for (int k = 0; k < s->n; k++)
            if (!strcmp(s->word[k], w->word[i])) here += s->p[k];
        p *= here;
    }
    return p;
}

/* Returns the number i < n whose word stands at w->word[*at], and moves *at past it; -1: none
 * does. */
static int parse_word(const Words *w, int *at, void (*make)(char *, int, bool), bool plural, int n)
{
    char word[WORD_BYTES];
    for (int i = 0; *at < w->n && i < n; i++) {
        make(word, i, plural);
        if (strcmp(word, w->word[*at])) continue;
        ++*at;
        return i;
    }
    return -1;
}

static int parse_listed(const Words *w, int *at, const char *const *list, int n)
{
    for (int i = 0; *at < w->n && i < n; i++) {
        if (strcmp(list[i], w->word[*at])) continue;
        ++*at;
        return i;
    }
    return -1;
}

static bool parse_phrase(const Words *w, int *at, NounPhrase *p)
{
    int determiner = parse_listed(w, at, source_determiner, 4);
    p->plural = determiner & 1;
    p->definite = determiner >> 1 & 1;
    p->adjective = parse_word(w, at, source_adjective, false, ADJECTIVES);
    p->noun = parse_word(w, at, source_noun, p->plural, NOUNS);
    return determiner >= 0 && p->noun >= 0;
}

/* Parses a source sentence. Returns false if it is not one. */
static bool parse_source(const Words *w, Sentence *s)
{
    int at = 0;
    if (!parse_phrase(w, &at, &s->subject)) return false;
    s->verb = parse_word(w, &at, source_verb, s->subject.plural, VERBS);
    if (s->verb < 0 || !parse_phrase(w, &at, &s->object)) return false;
    s->preposition = parse_listed(w, &at, source_preposition, PREPOSITIONS);
    if (s->preposition >= 0 && !parse_phrase(w, &at, &s->other)) return false;
    s->adverb = parse_word(w, &at, source_adverb, false, ADVERBS);
    return at == w->n;
}

double parallel_nats(const char *source, const char *target)
{
    Words w;
    Sentence s;
    Layout behind, first;
    words_split(&w, source);
    if (!parse_source(&w, &s)) return NAN;
    words_split(&w, target);
    layout_make(&behind, &s, false);
    layout_make(&first, &s, true);
    double p = layout_probability(&behind, &w);
    if (s.preposition >= 0) p = 0.75 * p + 0.25 * layout_probability(&first, &w);
    return -log(p);
}

/* ---- drawing ---- */

typedef struct Draws {
    uint64_t sub, q; /* q: index of the next word of the subsequence */
} Draws;

/* Draws one of 0 .. n-1 with equal probability. */
static int draw(Draws *d, int n)
{
    uint64_t i = d->q++;
    uint64_t word = philox_block(seed, d->sub, i >> 2).word[i & 3];
    return (int)(word * (uint64_t)n >> 32);
}

/* Each draw has a statement of its own, since the order of an initialiser's elements is not
 * defined. */
static NounPhrase draw_phrase(Draws *d)
{
    NounPhrase p;
    p.plural = draw(d, 5) < 2;
    p.definite = draw(d, 2);
    p.noun = draw(d, NOUNS);
    p.adjective = draw(d, 20) < 7 ? draw(d, ADJECTIVES) : -1;
    return p;
}

static Sentence draw_sentence(Draws *d)
{
    Sentence s = {.preposition = -1, .adverb = -1};
    s.subject = draw_phrase(d);
    s.verb = draw(d, VERBS);
    s.object = draw_phrase(d);
    if (draw(d, 5) < 1) {
        s.preposition = draw(d, PREPOSITIONS);
        s.other = draw_phrase(d);
    }
    if (draw(d, 5) < 1) s.adverb = draw(d, ADVERBS);
    return s;
}

/* Writes a word and the blank or newline that follows it. Returns the place of the next word. */
static char *put_word(char *at, const char *word, bool last)
{
    size_t n = strlen(word);
    memcpy(at, word, n);
    at[n] = last ? '\n' : ' ';
    return at + n + 1;
}

int parallel_text(int split, char *bytes[2], Error *e)
{
    size_t most = (size_t)parallel_pairs[split] * MAX_WORDS * WORD_BYTES + 1;
    char *at[2];
    for (int side = 0; side < 2; side++) at[side] = bytes[side] = malloc(most);
    if (!bytes[0] || !bytes[1]) {
        free(bytes[0]), free(bytes[1]);
        return error_set(e, EXIT_FAILED, "memory ran out while making the built-in corpus");
    }
    for (int64_t k = 0; k < parallel_pairs[split]; k++) {
        Draws d = {.sub = SUB_TEXT + (uint64_t)split, .q = 64 * (uint64_t)k};
        Sentence s = draw_sentence(&d);
        Words source;
        Layout target;
        source_words(&source, &s);
        for (int i = 0; i < source.n; i++)
            at[0] = put_word(at[0], source.word[i], i + 1 == source.n);
        layout_make(&target, &s, draw(&d, 4) == 0);
        for (int i = 0; i < target.n; i++) {
            const Slot *slot = &target.slot[i];
            int quarter = slot->n > 1 ? draw(&d, 4) : 0, word = 0;
            for (double passed = slot->p[0]; passed <= 0.25 * quarter; passed += slot->p[word])
                word++;
            at[1] = put_word(at[1], slot->word[word], i + 1 == target.n);
        }
        assert(d.q <= 64 * (uint64_t)(k + 1));
    }
    for (int side = 0; side < 2; side++) {
        *at[side] = 0;
        char *cut = realloc(bytes[side], (size_t)(at[side] - bytes[side]) + 1);
        if (cut) bytes[side] = cut;
    }
    return EXIT_DONE;
}

int parallel_best(int split, double *nats, Error *e)
{
    char *bytes[2];
    int code = parallel_text(split, bytes, e);
    if (code) return code;
    *nats = 0;
    for (char *source = bytes[0], *target = bytes[1]; *source;) {
        char *source_end = strchr(source, '\n'), *target_end = strchr(target, '\n');
        *source_end = *target_end = 0;
        *nats += parallel_nats(source, target);
        source = source_end + 1, target = target_end + 1;
    }
    free(bytes[0]), free(bytes[1]);
    return EXIT_DONE;
}
