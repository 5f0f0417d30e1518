"""Reads images with captions in the form of Karpathy's dataset_coco.json, for the other tools."""
import json
import os

from demo import Failure

SPLITS = {"train": ("train", "restval"), "valid": ("val",), "test": ("test",)}


def read(path):
    """Returns the file's object; path may be the folder that contains dataset.json."""
    if os.path.isdir(path):
        path = os.path.join(path, "dataset.json")
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except OSError as fault:
        raise Failure(f"{path} cannot be read: {fault.strerror}") from fault
    except ValueError as fault:
        raise Failure(f"{path} is not JSON: {fault}") from fault


def images_of(dataset, split):
    """Returns a split's images in file order, which is the order of `plstm caption --split`."""
    if split not in SPLITS:
        raise Failure(f"unknown split '{split}'; expected one of {', '.join(SPLITS)}")
    return [image for image in dataset["images"] if image["split"] in SPLITS[split]]


def captions_of(image):
    """Returns the tokenised captions, with a space between words, without the empty ones."""
    captions = (" ".join(sentence["tokens"]) for sentence in image.get("sentences", ()))
    return [caption for caption in captions if caption]
