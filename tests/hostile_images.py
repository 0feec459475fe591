"""Image files made to cost time or memory, each a small program's work; none is stored."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()


# JPEG


def jpeg(width=64, height=64, **how):
    return encoded(Image.new("RGB", (width, height), "grey"), format="JPEG", **how)


def jpeg_of_scans(count, width=64, height=64, between=b""):
    """A progressive JPEG whose last scan stands there ``count`` times more."""
    content = jpeg(width, height, progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + (between + content[last:-2]) * count + content[-2:]


def jpeg_with(inserted):
    """A JPEG with bytes after its first marker."""
    content = jpeg()
    return content[:2] + inserted + content[2:]


# PNG


def chunk(name, content):
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width=8, height=8, chunks=b"", data=None, after=b"", depth=8, kind=2):
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0))
    if data is None:
        samples = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
        compressor = zlib.compressobj(1)
        row = bytes(1 + width * samples * depth // 8)
        data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    parts = (b"\x89PNG\r\n\x1a\n", header, chunks, chunk(b"IDAT", data), after)
    return b"".join(parts) + chunk(b"IEND", b"")


def png_of_profiles(count):
    """A PNG with many colour profiles, each a megabyte of zeros when unpacked."""
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000), 9))
    return png(chunks=profile * count)


# TIFF


def tiff(*directories, data=b""):
    """A little-endian TIFF of directories, each a list of (tag, type, count, value) entries.

    The file begins with the header and ``data``.
    """
    content = bytearray(b"II*\0" + struct.pack("<I", 8 + len(data)) + data)
    for number, entries in enumerate(directories):
        content += struct.pack("<H", len(entries))
        for entry in entries:
            content += struct.pack("<HHII", *entry)
        last = number == len(directories) - 1
        content += struct.pack("<I", 0 if last else len(content) + 4)
    return bytes(content)


def grey(width, height, *more, offset=8, size=64, compression=1):
    """The entries of a directory of an 8-bit grey image in one strip; ``more`` replace them."""
    entries = {
        256: (256, 4, 1, width),
        257: (257, 4, 1, height),
        258: (258, 3, 1, 8),
        259: (259, 3, 1, compression),
        262: (262, 3, 1, 1),
        273: (273, 4, 1, offset),
        277: (277, 3, 1, 1),
        278: (278, 4, 1, height),
        279: (279, 4, 1, size),
    }
    for entry in more:
        entries[entry[0]] = entry
    return [entries[tag] for tag in sorted(entries)]


def tiff_of_directories(count):
    return tiff(*[grey(8, 8)] * count, data=bytes(64))


def tiff_of_a_tile(side, packed=None):
    """An image of 16 x 16 pixels in one tile of ``side`` pixels, which deflates well."""
    packed = zlib.compress(bytes(1000)) if packed is None else packed
    tiles = (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, len(packed))
    entries = grey(16, 16, *tiles, compression=8)
    return tiff([e for e in entries if e[0] not in (273, 278, 279)], data=packed)


def tiff_of_overlapping_tags(count, size):
    """Private tags that all hold the same ``size`` bytes of the file."""
    tags = [(40_000 + number, 7, size, 8) for number in range(count)]
    return tiff(grey(8, 8, *tags), data=bytes(size))


# GIF


def gif(width=8, height=8):
    return encoded(Image.new("L", (width, height)), format="GIF")


def gif_of_comments(count):
    content = gif()
    image = content.index(b",", 13 + 3 * (2 << (content[10] & 7)))
    return content[:image] + b"!\xfe" + b"\x01a" * count + b"\0" + content[image:]


def gif_of_frames(count):
    content = gif()
    image = content.index(b",", 13 + 3 * (2 << (content[10] & 7)))
    return content[:-1] + content[image:-1] * count + b";"


# WebP


def webp_of_frames(count, width=8, height=8):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], format="WEBP", save_all=True, append_images=frames[1:])
    last = content.rindex(b"ANMF")
    body = bytearray(content[12:] + content[last:] * count)
    body[12:18] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + bytes(body)


# BMP and PPM


def bmp_of_runs(width, height, runs=b"\x00\x01"):
    """An 8-bit BMP that is run-length encoded."""
    palette = bytes(4 * 256)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    offset = 14 + len(head) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(runs), 0, 0, offset) + head + palette + runs


def pgm(width, height, maxval=255, kind=b"P5", data=b""):
    return b"%s\n%d %d\n%d\n" % (kind, width, height, maxval) + data


# Colour profiles


def profile_of_elements(count):
    """An RGB profile whose transform is ``count`` times the same matrix."""
    matrix = b"matf" + bytes(4) + struct.pack(">2H", 3, 3)
    matrix += np.array([*np.eye(3).ravel(), 0, 0, 0], ">f4").tobytes()
    table = struct.pack(">2I", 16 + 8 * count, len(matrix)) * count
    tag = b"mpet" + bytes(4) + struct.pack(">2HI", 3, 3, count) + table + matrix
    header = bytearray(128)
    header[0:4] = struct.pack(">I", 128 + 16 + len(tag))
    header[8:24] = b"\x04\x30\0\0" + b"mntr" + b"RGB " + b"XYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    return bytes(header) + struct.pack(">I4s2I", 1, b"D2B0", 144, len(tag)) + tag
