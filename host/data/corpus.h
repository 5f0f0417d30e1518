/* corpus: turns text into a vocabulary and int32 ids (SPEC 4). */
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
    int64_t unknown; /* tokens missing in the vocabulary, which became <unk> */
} Stream;

/* The file of a split, and peculiarities of its text on which corpus_remark reports. */
typedef struct TextFile {
    char *path;    /* from malloc; NULL: the built-in corpus, or a split that was not read */
    bool mark;     /* a UTF-8 byte-order mark at its start was removed */
    bool open_end; /* its last line lacks the newline */
    /* words that hold a character which Unicode and Python's str.split() treat as a space and this
     * program as a letter: U+00A0, U+3000, U+0085 ... */
    int64_t wide_space;
} TextFile;

/* A text whose exact next-word distribution is known. */
enum { KNOWN_CLASSES = 8 }; /* most classes of positions */
typedef struct KnownText {
    int classes;             /* number of classes into which reports divide its positions */
    const char *const *name; /* (classes) */
    /* Sets, for each token of a whole split, class_of (n) to the class of its position and nats (n)
     * to -log of its true probability there. */
    void (*positions)(const int32_t *ids, int64_t n, unsigned char *class_of, double *nats);
} KnownText;

typedef struct Corpus {
    Vocab vocab;
    /* n is 0 if a split was not read: a text that was read is never empty */
    Stream split[SPLITS];
    TextFile file[SPLITS];
    /* hash of the little-endian int32 ids of train, valid and test; "" unless all were read */
    char sha256[65];
    char train_sha256[65];  /* that of train alone; "" if it was not read */
    bool synthetic;         /* the built-in corpus */
    const KnownText *known; /* NULL if the distribution is not known */
    bool final_eos;         /* <eos> was added where a file's last line lacks its newline */
    /* "Penn Treebank (Mikolov)" if the hash is recognised, "synthetic", or NULL */
    const char *known_as;
} Corpus;

typedef struct CorpusRead {
    const Vocab *vocab; /* the vocabulary of the ids; NULL: it is built from train */
    unsigned needed;    /* bits 1 << split: splits that the folder must have */
    /* Bits 1 << split: splits that are read if they exist. If vocab is NULL, train counts as
     * needed, and if train lacks the type <unk>, the others count as wanted, since they decide
     * whether it is added. */
    unsigned wanted;
    bool final_eos; /* add <eos> where a file's last line lacks its newline */
} CorpusRead;
enum { EVERY_SPLIT = (1 << SPLITS) - 1 };

/* Reads the folder dir. SPEC 4 lists the accepted file names; one naming scheme serves all splits.
 * A given vocabulary is copied; a word that it lacks becomes <unk>, and if it lacks that type too,
 * EXIT_BAD_DATA names the word. EXIT_BAD_DATA: a missing or empty file, files of two naming
 * schemes, a NUL byte, more than 2^31-1 types ...; the sentence names file and reason. Peak memory:
 * 4 bytes per token and the vocabulary (files are read through a fixed buffer). */
int corpus_read_folder(Corpus *c, const char *dir, const CorpusRead *how, Error *e);

/* Looks up the words of the built-in corpus in another vocabulary, which is copied. The known
 * distribution refers to the corpus' own ids, so unless the two vocabularies agree, the result is a
 * text like any other. */
int corpus_translate(Corpus *c, const Vocab *to, Error *e);

/* Sets the hashes, and known_as if the corpus is recognised: the last step of making a corpus. */
void corpus_name(Corpus *c);

void corpus_free(Corpus *c);

/* Writes remark number i (from 0) about a harmless peculiarity of the files to text (size). Returns
 * false if there are no more. */
bool corpus_remark(const Corpus *c, int i, char *text, size_t size);

/* Returns the bytes of memory that the ids and the vocabulary take. */
size_t corpus_bytes(const Corpus *c);

/* Reads a vocabulary from a text file with one type per line, in the order of the ids; release it
 * with vocab_free. EXIT_BAD_DATA: the file cannot be read or is empty, a line is empty or holds
 * white space, or a type occurs twice. */
int vocab_read(Vocab *v, const char *path, Error *e);

/* Finds the file of a split as corpus_read_folder does, without reading it. *path is allocated by
 * malloc; NULL: the folder has no such file, or dir names the built-in corpus. EXIT_BAD_DATA: the
 * folder cannot be opened, or holds files of two naming schemes. */
int corpus_file(const char *dir, int split, char **path, Error *e);

#endif
