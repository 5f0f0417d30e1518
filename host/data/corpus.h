/* corpus: text -> vocabulary and int32 ids (SPEC 4). */
#ifndef PLSTM_CORPUS_H
#define PLSTM_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/error.h"
#include "vocab.h"

enum { SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST, SPLITS };
extern const char *const split_name[SPLITS]; /* "train", "valid", "test" */

typedef struct Stream {
    int32_t *ids; /* (n) */
    int64_t n;
    int64_t unknown; /* tokens that the vocabulary lacks and that became <unk> */
} Stream;

/* Where a split was read from, and what of its text a reader should know. */
typedef struct TextFile {
    char *path;    /* malloc'd; NULL: the built-in corpus, or a split that was not read */
    bool mark;     /* a UTF-8 byte-order mark at its start was taken off */
    bool open_end; /* its last line lacks the newline */
    int64_t
        wide_space; /* words that hold a character which Unicode and Python's str.split() take for a space and
                           this program for a letter: U+00A0, U+3000, U+0085 ... */
} TextFile;

/* What is known of a text whose exact next-word distribution is known. */
enum { KNOWN_CLASSES = 8 }; /* at most */
typedef struct KnownText {
    int classes;             /* that its positions are reported by */
    const char *const *name; /* (classes) */
    /* For each token of a whole split: the class of its position and -log of its true probability there. */
    void (*positions)(const int32_t *ids, int64_t n, unsigned char *class_of, double *nats);
} KnownText;

typedef struct Corpus {
    Vocab vocab;
    Stream
        split[SPLITS]; /* n is 0 where a split was not read: a text that is read is never empty */
    TextFile file[SPLITS];
    char sha256
        [65]; /* over the int32 little-endian ids of train, valid, test; "" unless all were read */
    char train_sha256[65];  /* over those of train alone; "" where it was not read */
    bool synthetic;         /* the built-in corpus */
    const KnownText *known; /* NULL where the distribution is not known */
    bool final_eos;         /* <eos> was added where a file's last line lacks its newline */
    const char *
        known_as; /* "Penn Treebank (Mikolov)" where the hash is recognised, "synthetic", or NULL */
} Corpus;

typedef struct CorpusRead {
    const Vocab *vocab; /* whose ids are taken; NULL: the vocabulary is built from train */
    unsigned needed;    /* bits 1 << split: a folder that lacks one of them is a fault */
    unsigned
        wanted; /* bits: read where they are there. Train counts as needed where vocab is NULL, and then, if it
                           lacks the type <unk>, the others as wanted: they decide whether that is added */
    bool final_eos; /* add <eos> where a file's last line lacks its newline */
} CorpusRead;
enum { EVERY_SPLIT = (1 << SPLITS) - 1 };

/* Reads DIR (see SPEC 4 for accepted file names; one naming scheme serves all splits). With a given vocabulary, which is copied, a word that it lacks becomes <unk>;
 * without that type EXIT_BAD_DATA names the word. EXIT_BAD_DATA: missing or empty file, files of two naming
 * schemes, NUL byte, more than 2^31-1 types ...; the sentence names file and fault. Peak memory: 4 bytes a token
 * and the vocabulary (files are read through a fixed buffer). */
int corpus_read_folder(Corpus *c, const char *dir, const CorpusRead *how, Error *e);

/* Looks the words of the built-in corpus up in another vocabulary, which is copied. What is known of the text is about its
 * own ids, so unless the two vocabularies agree the result is a text like any other. */
int corpus_translate(Corpus *c, const Vocab *to, Error *e);

/* Hashes the ids and recognises them: the last step of making a corpus. */
void corpus_name(Corpus *c);

void corpus_free(Corpus *c);

/* Sentence number i (from 0) about what was found in the files and is no fault; false where there is none. */
bool corpus_remark(const Corpus *c, int i, char *text, size_t size);

/* Bytes of memory that it holds. */
size_t corpus_bytes(const Corpus *c);

/* Reads a vocabulary from a text file with one type a line, in the order of the ids. EXIT_BAD_DATA: an empty line, white
 * space in one, a type twice. */
int vocab_read(Vocab *v, const char *path, Error *e);

/* The file of a split, by the same rules, without reading it: malloc'd in *path, NULL where the folder has none
 * (or is the built-in corpus). */
int corpus_file(const char *dir, int split, char **path, Error *e);

#endif
