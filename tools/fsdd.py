#!/usr/bin/env python3
"""Makes a folder for `plstm train --task frames` from the Free Spoken Digit Dataset: log-mel filterbanks and a phonetic state for every
frame.

    fsdd.py RECORDINGS OUT [--split recordings|speakers] [--only N] [--jobs N]

RECORDINGS has files DIGIT_SPEAKER_NUMBER.wav (8 kHz, 16 bits, mono). The script writes to OUT

    train/ valid/ test/   feats.ark, feats.scp (Kaldi's, binary float32) and labels (utterance id id id ..., one id per frame)
    phones                lines "name id", with the word silence after the id of silence

Features are 40 log-mel energies of 25 ms every 10 ms by kaldi-native-fbank, without dither. For the labels, pocketsphinx aligns the digit's
word to the recording with its own acoustic model. The recording is upsampled to 16 kHz for this, with 0.2 s of faint noise before and
after, which belong to no frame of the output. A label is a phone and one of its three states; silence is one label. A recording that does
not align is left out and counted.

--split recordings: numbers 0-4 of each digit and speaker are test, as in the corpus authors' split, 5-9 are valid, the rest are training.
--split speakers: the last speaker by name is test, the one before is valid, the others are training, so no speaker is in two splits.

The first run installs both libraries from PyPI into a virtual environment under build/. The same recordings give the same bytes.
"""
import argparse
import os
import re
import struct
import subprocess
import sys
import venv
import wave
from collections import Counter

PACKAGES = {"kaldi-native-fbank": "1.23.0", "pocketsphinx": "5.1.1", "numpy": "2.4.6"}
STAMP = "-".join(f"{name}-{version}" for name, version in PACKAGES.items())  # marks an environment that has all packages
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = ("train", "valid", "test")
RATE, BINS = 8000, 40
PADDING = 20  # frames of noise before and after, for alignment only
STATES = 3
SILENCE = "SIL"
NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")


class Failure(Exception):
    """An error whose text is a sentence for the user; the program exits with 1."""


# ---- the virtual environment ----


def installed(folder):
    """Returns the Python that has both libraries; an incomplete environment is built again."""
    python = os.path.join(folder, "bin", "python")
    stamp = os.path.join(folder, STAMP)
    if os.path.exists(stamp):
        return python
    print(f"installing {', '.join(PACKAGES)} into {os.path.relpath(folder)}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                           *(f"{name}=={version}" for name, version in PACKAGES.items())],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        said = done.stdout.strip().splitlines()
        raise Failure(f"{' and '.join(PACKAGES)} are missing in {os.path.relpath(folder)}, and pip could not install them: "
                      f"{said[-1] if said else 'it printed nothing'}")
    with open(stamp, "w", encoding="utf-8"):
        pass
    return python


# ---- one recording; what follows runs inside the environment ----


def samples_of(path):
    import numpy
    try:
        with wave.open(path, "rb") as w:
            kind = (w.getnchannels(), w.getsampwidth(), w.getframerate())
            data = w.readframes(w.getnframes())
    except (OSError, EOFError, wave.Error) as fault:
        raise Failure(f"{path} cannot be read as a wav file: {fault}") from fault
    if kind != (1, 2, RATE):
        raise Failure(f"{path} has {kind[0]} channels of {8 * kind[1]} bits at {kind[2]} Hz; expected one channel of 16 bits at {RATE} Hz")
    return numpy.frombuffer(data, "<i2").astype(numpy.float64)


def features_of(samples):
    """Returns the features, (frames, BINS) float32."""
    import kaldi_native_fbank
    import numpy
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = BINS
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(RATE, (samples / 32768).tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]
    return numpy.array(frames, numpy.float32).reshape(-1, BINS)


def upsampled(samples):
    """Doubles the sample rate: puts zeros between the samples, then applies a windowed-sinc low-pass filter of 63 taps."""
    import numpy
    n = numpy.arange(-31, 32)
    taps = numpy.sinc(n / 2) * numpy.hanning(65)[1:-1]
    wide = numpy.zeros(2 * len(samples))
    wide[::2] = samples
    return numpy.convolve(wide, taps, "same")


def noise(count, seed):
    """Returns integers from -3 to 3 from a linear congruential generator."""
    values, state = [], seed
    for _ in range(count):
        state = (1664525 * state + 1013904223) & 0xffffffff
        values.append((state >> 16) % 7 - 3)
    return values


class Aligner:
    """Runs pocketsphinx with its own acoustic model; each recording is aligned as if it were the first one."""

    def __init__(self):
        import pocketsphinx
        self.decoder = pocketsphinx.Decoder(lm=None, loglevel="FATAL")
        self.cmn = self.decoder.get_cmn()

    def search(self, data):
        self.decoder.set_cmn(self.cmn)
        self.decoder.start_utt()
        self.decoder.process_raw(data, full_utt=True)
        self.decoder.end_utt()

    def align(self, samples, word):
        """Returns the state's name for each frame of the padded recording, or None if the word does not align."""
        import numpy
        pad = PADDING * RATE // 100 * 2
        padded = numpy.concatenate([noise(pad, 1), upsampled(samples), noise(pad, 2)])
        data = numpy.clip(numpy.rint(padded), -32768, 32767).astype("<i2").tobytes()
        try:
            self.decoder.set_align_text(word)
            self.search(data)
            if not self.decoder.hyp():
                return None
            self.decoder.set_alignment()
            self.search(data)
            words = self.decoder.get_alignment()
        except RuntimeError:  # pocketsphinx: no path through the word
            return None
        names = []
        for entry in words or ():
            for phone in entry:
                for number, state in enumerate(phone):
                    assert state.start == len(names)
                    silent = phone.name == SILENCE or phone.name.startswith("+")
                    names += [SILENCE if silent else f"{phone.name}_{number}"] * state.duration
        return names or None


aligner = None  # each process has its own


def recording(path):
    """Returns (features as bytes, frames, names of states), or the reason why the recording is left out."""
    global aligner
    aligner = aligner or Aligner()
    samples = samples_of(path)
    features = features_of(samples)
    if not len(features):
        return "shorter than a frame"
    names = aligner.align(samples, WORDS[int(os.path.basename(path)[0])])
    if names is None:
        return "did not align"
    names = names[PADDING:PADDING + len(features)]
    if len(names) < len(features):
        return "aligned in part"
    if all(name == SILENCE for name in names):
        return "nothing but silence"
    return features.astype("<f4").tobytes(), len(features), names


# ---- the folder ----


def splits_of(files, how):
    """Returns {split: [file]}."""
    speakers = sorted({NAME.fullmatch(name)[2] for name in files})
    if how == "speakers" and len(speakers) < 3:
        raise Failure(f"--split speakers needs at least three speakers; the recordings have {len(speakers)}")

    def split_of(name):
        _, speaker, number = NAME.fullmatch(name).groups()
        if how == "speakers":
            return "test" if speaker == speakers[-1] else "valid" if speaker == speakers[-2] else "train"
        return "test" if int(number) < 5 else "valid" if int(number) < 10 else "train"

    found = {split: [] for split in SPLITS}
    for name in files:
        found[split_of(name)].append(name)
    return found


def chosen(folder, only):
    try:
        files = sorted(name for name in os.listdir(folder) if NAME.fullmatch(name))
    except OSError as fault:
        raise Failure(f"{folder} cannot be read: {fault.strerror}") from fault
    if not files:
        raise Failure(f"{folder} has no recordings; expected names like 7_theo_0.wav")
    step = max(1, len(files) // only) if only else 1
    return files[::step][:only or None]


def write_split(folder, recordings, ids):
    """Writes one split; recordings: [(utterance, features, frames, names)]."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "feats.ark"), "wb") as ark, open(os.path.join(folder, "feats.scp"), "w", encoding="ascii") as scp, \
            open(os.path.join(folder, "labels"), "w", encoding="ascii") as labels:
        for utterance, features, frames, names in recordings:
            ark.write(utterance.encode() + b" ")
            scp.write(f"{utterance} feats.ark:{ark.tell()}\n")
            ark.write(b"\0BFM \4" + struct.pack("<i", frames) + b"\4" + struct.pack("<i", BINS) + features)
            labels.write(" ".join([utterance, *(str(ids[name]) for name in names)]) + "\n")


def build(options):
    import multiprocessing
    files = chosen(options.recordings, options.only)
    with multiprocessing.Pool(options.jobs) as pool:
        results = dict(zip(files, pool.map(recording, [os.path.join(options.recordings, name) for name in files], chunksize=16)))
    splits = splits_of(files, options.split)
    states = sorted({state for name in splits["train"] if not isinstance(results[name], str) for state in results[name][2]} - {SILENCE})
    if not states:
        raise Failure("no recording of the training split is left")
    ids = {name: number for number, name in enumerate([SILENCE, *states])}
    for split in SPLITS:
        kept, reasons = [], Counter()
        for name in splits[split]:
            result = results[name]
            if not isinstance(result, str) and not set(result[2]) <= ids.keys():
                result = "has a state that training does not have"
            if isinstance(result, str):
                reasons[result] += 1
            else:
                kept.append((name.removesuffix(".wav"), *result))
        write_split(os.path.join(options.out, split), kept, ids)
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        print(f"{split:5} {len(kept):5} recordings, {sum(r[2] for r in kept):7} frames; left out "
              f"{sum(reasons.values())} of {len(splits[split])}"
              + (f" ({why})" if why else ""))
    with open(os.path.join(options.out, "phones"), "w", encoding="ascii") as f:
        f.writelines(f"{name} {number}{' silence' * (name == SILENCE)}\n" for name, number in ids.items())
    print(f"{len(ids)} labels: silence and {len(states)} states of {len({s[:-2] for s in states})} phones")


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def main():
    parser = argparse.ArgumentParser(description="Writes features and phonetic states of the spoken digits.", allow_abbrev=False)
    parser.add_argument("recordings", help="folder of wav files")
    parser.add_argument("out", help="folder to write")
    parser.add_argument("--split", choices=("recordings", "speakers"), default="recordings",
                        help="whether the splits differ in recordings or in speakers")
    parser.add_argument("--only", type=positive, metavar="N", help="use only N recordings, spread over all")
    parser.add_argument("--jobs", type=positive, default=len(os.sched_getaffinity(0)), metavar="N",
                        help="recordings at a time (default: one per core)")
    parser.add_argument("--venv", default=os.path.join(ROOT, "build", "fsdd"), metavar="DIR", help="where the libraries are installed")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # runs inside the environment
    options = parser.parse_args()
    try:
        if options.inside:
            build(options)
        else:
            python = installed(options.venv)
            sys.stdout.flush()
            os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:], "--inside"])
    except Failure as failure:
        print(f"fsdd.py: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
