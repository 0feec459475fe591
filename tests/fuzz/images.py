"""Mutated image files: each is read as a photo, or refused with a reason, in bounded time.

    python tests/fuzz/images.py --count 100000 --seed 1

prints one line, and ends with status 1 if a file did something else. The file of a fault is made
again from its number: ``mutated(number)``.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import resource
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import hostile_images as hostile

from gradcam_adv.data import photos

SECONDS = 10  # of the processor, for one file
MEMORY = 8 << 30  # of a process that reads
BATCH = 500
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds():
    """Good files of every format, and small ones of every costly kind."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    image = Image.fromarray(noise)
    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = hostile.profile_of_elements(3)
    return [
        *(hostile.encoded(image, format=f) for f in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")),
        *(hostile.encoded(image, format=f, **frames) for f in ("GIF", "TIFF", "WEBP", "PNG")),
        *(hostile.encoded(image, format=f, exif=exif) for f in ("JPEG", "TIFF", "PNG", "WEBP")),
        *(hostile.encoded(image, format=f, icc_profile=profile) for f in ("JPEG", "TIFF", "PNG")),
        *(hostile.encoded(image, format="TIFF", compression=f"tiff_{c}") for c in ("lzw", "jpeg")),
        hostile.encoded(image.convert("CMYK"), format="JPEG", progressive=True),
        hostile.encoded(image.convert("RGBA"), format="WEBP", lossless=True),
        hostile.encoded(image.convert("LA"), format="PNG"),
        hostile.encoded(image, format="MPO", save_all=True, append_images=[image]),
        hostile.jpeg_of_scans(30),
        hostile.jpeg_with(b"\xff\xed\0\x20" + b"Photoshop 3.0\0".ljust(30)),
        hostile.png_of_profiles(3),
        hostile.tiff_of_directories(30),
        hostile.tiff_of_a_tile(64),
        hostile.tiff_of_overlapping_tags(20, 200),
        hostile.gif_of_comments(30),
        hostile.gif_of_frames(30),
        hostile.webp_of_frames(30),
        hostile.bmp_of_runs(24, 40, b"\x20\x01" * 40),
        hostile.pgm(24, 40, 254, data=bytes(960)),
        hostile.pgm(24, 40, 255, b"P2", b"7 # 7\n" * 960),
    ]


SEEDS = seeds()


def mutated(number):
    """The file of this number: one of SEEDS with one to five changes."""
    random = np.random.default_rng(number)
    content = bytearray(SEEDS[random.integers(len(SEEDS))])
    for _ in range(random.integers(1, 6)):
        # Half of the changes are near the start, where they have the most effect.
        reach = max(1, len(content) if random.random() < 0.5 else min(len(content), 200))
        place, length = int(random.integers(reach)), int(random.integers(1, 60))
        match random.integers(6):
            case 0:
                content[place : place + 1] = random.bytes(1)
            case 1:
                order, size = "<>"[random.integers(2)], random.integers(3)
                value = NUMBERS[random.integers(len(NUMBERS))] & (1 << (8 << size)) - 1
                content[place : place + (1 << size)] = struct.pack(order + "BHI"[size], value)
            case 2:
                del content[place : place + length]
            case 3:
                content[place:place] = content[place : place + length] * int(random.integers(1, 40))
            case 4:
                other = SEEDS[random.integers(len(SEEDS))]
                content[place:] = other[int(random.integers(len(other))) :]
            case 5:
                del content[max(1, place) :]
    return bytes(content)


def faults(numbers):
    """What went wrong with the files of these numbers, a line for each; and how many were read."""
    found, read = [], 0
    with tempfile.TemporaryDirectory() as folder, photos.quiet():
        path = Path(folder, "a")
        for number in numbers:
            path.write_bytes(mutated(number))
            start = time.process_time()
            try:
                with photos.opened(path) as (image, note):
                    photos.perceptual_hash(image)
                    read += 1
                    if image.mode != "RGB" or not (note + " ").isprintable():
                        found.append(f"{number}: {image.mode}, {note!r}")
            except ValueError as error:
                if not str(error) or folder in str(error) or "not enough memory" in str(error):
                    found.append(f"{number}: {error!r}")
            except Exception as error:
                found.append(f"{number}: {error!r}")
            if (took := time.process_time() - start) > SECONDS:
                found.append(f"{number}: {took:.0f} s")
    return found, read


def _prepare():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff prints what it thinks of a file


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    first = arguments.seed * 10_000_000
    numbers = range(first, first + arguments.count)
    batches = [numbers[start : start + BATCH] for start in range(0, arguments.count, BATCH)]
    found, read = [], 0
    for batch in batches:
        # A process of its own: what kills it is a fault of this batch, and the others go on.
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, spawn, _prepare) as pool:
            try:
                of_batch, read_of_batch = pool.submit(faults, batch).result()
            except concurrent.futures.process.BrokenProcessPool:
                of_batch, read_of_batch = [f"{batch}: the process died"], 0
        found += of_batch
        read += read_of_batch
    print(*found, sep="\n", end="\n" * bool(found), file=sys.stderr)
    print(f"images: {arguments.count:,} files, {read:,} read, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
