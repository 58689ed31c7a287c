"""Hostile variants of valid files, for hypothesis: edited bytes, and edits that keep a format's checksums right."""

import copy
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

from hypothesis import strategies as st

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
TOKENS = [
    b"\0" * 8,
    b"\xff" * 8,
    b"../",
    b"/etc/passwd",
    b"[" * 50,
    b"9" * 40,
    b"NaN",
    b"!!python/object:os.system ",
    b"*a",
    b"\n",
    b'"',
]
TOKENS += [struct.pack(f"{order}I", number) for number in NUMBERS for order in "<>"]
# Values of other types, beyond every bound, and names that lead elsewhere.
VALUES = [None, True, -1, 0, 10**17, 10**30, 1e308, -1e308, float("nan"), float("inf"), "", "x", [], {}, [[]], [None], {"": 0}]
VALUES += ["../../evil", "/etc/passwd", "a\0b", "\ud800", "<script>", "x" * 300, "{k}", "$(touch canary)"]
NAMES = [
    "a",
    "bottle/train/good/000.png",
    "bottle/",
    "../evil",
    "/evil",
    "a/../../evil",
    "a/" * 200 + "x",
    "x" * 300,
    "",
    ".",
    "a\nb",
]
NAMES += ["C:evil", "..\\evil", "\udcff", "link", "link/evil", "-rf", "a" * 90 + "/" + "b" * 90]

Bytes = st.SearchStrategy[bytes]


def edited(whole: st.SearchStrategy[bytes]) -> Bytes:
    """Some bytes changed, removed, inserted or repeated; or all of them replaced."""
    edit = st.tuples(
        st.integers(0, 4), st.integers(0, 2**16), st.integers(0, 64), st.sampled_from(TOKENS) | st.binary(max_size=8)
    )
    return st.tuples(whole, st.lists(edit, max_size=4)).map(lambda of: _edited(*of)) | st.binary(max_size=64)


def _edited(content: bytes, edits: list[tuple[int, int, int, bytes]]) -> bytes:
    for kind, place, length, token in edits:
        start = place % (len(content) + 1)
        before, part, after = content[:start], content[start : start + length], content[start + length :]
        content = [
            before,  # cut
            before + after,
            before + token + content[start:],
            before + token + content[start + len(token) :],
            before + part * 3 + after,
        ][kind]
    return content


def edited_values(values) -> st.SearchStrategy:
    """JSON values with some of them replaced, removed or added."""
    edit = st.tuples(st.integers(0, 2), st.integers(0, 10**6), st.sampled_from(VALUES))
    return st.lists(edit, min_size=1, max_size=3).map(lambda edits: _edited_values(values, edits))


def _edited_values(values, edits):
    values = json.loads(json.dumps(values))
    for kind, place, value in edits:
        new, places = copy.deepcopy(value), list(_places(values))
        if not places:
            return new
        inside, key = places[place % len(places)]
        if kind == 0:
            inside[key] = new
        elif kind == 1:
            del inside[key]
        elif isinstance(inside, dict):
            inside["more"] = new
        else:
            inside.insert(key, new)
    return values


def _places(values):
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in list(items):
        yield values, key
        yield from _places(value)


def jsons(values) -> Bytes:
    as_bytes = edited_values(values).map(lambda of: json.dumps(of).encode())
    deep = st.sampled_from([b"[" * 100_000, b'{"a":' * 20_000, b"1" * 5000, b'"\\ud800"', b"1e999"])
    return as_bytes | edited(st.just(json.dumps(values).encode())) | deep


def tars() -> Bytes:
    """A tar of members of any kind, name and size, plain or compressed, with some bytes edited before and after."""
    kinds = st.sampled_from(
        [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
    )
    kinds |= st.sampled_from([tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_SPARSE, b"?"])
    sizes = st.sampled_from([0, 1, 5, 5, 5, 600, 10**6, 8**11 - 1, 2**60, -1])
    pax = st.just({}) | st.dictionaries(st.sampled_from(["path", "linkpath", "size", "GNU.sparse.map"]), st.sampled_from(NAMES))
    member = st.tuples(st.sampled_from(NAMES[:3]) | st.sampled_from(NAMES), kinds, st.sampled_from(NAMES), sizes, pax)
    packed = st.sampled_from([bytes, bytes, zlib_gz, lzma_xz])
    whole = st.lists(member, min_size=1, max_size=4).map(_tar)
    return st.tuples(whole | edited(whole), packed).map(lambda of: of[1](of[0])) | edited(whole.map(zlib_gz))


def _tar(members) -> bytes:
    content = io.BytesIO()
    for name, kind, link, size, pax in members:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size, info.pax_headers = kind, link, size, pax
        try:
            content.write(info.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        except ValueError:  # a number that the format cannot write
            continue
        if size > 0 and kind != tarfile.DIRTYPE:
            content.write(b"hello".ljust(512, b"\0"))
    return content.getvalue() + bytes(1024)


def zlib_gz(content: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(content) + packer.flush()


def lzma_xz(content: bytes) -> bytes:
    import lzma

    return lzma.compress(content, preset=0)


def zips() -> Bytes:
    """A zip of entries of any name and mode, with other sizes, offsets and kinds of compression in its directory."""
    modes = st.sampled_from([0, 0, 0, 0o100644, 0o040755, 0o120777, 0o020644, 0o010644])
    method = st.sampled_from([*[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 3, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    entry = st.tuples(st.sampled_from(NAMES[:3]) | st.sampled_from(NAMES), modes, st.binary(max_size=20), method)
    fields = st.lists(st.tuples(st.integers(0, 3), st.integers(4, 42), st.sampled_from(NUMBERS)), max_size=2)
    whole = st.tuples(st.lists(entry, min_size=1, max_size=4), fields).map(lambda of: _zip(*of))
    return whole | edited(whole)


def _zip(entries, fields) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, mode, body, method in entries:
            info = zipfile.ZipInfo(name.replace("\udcff", "\xff") or "empty")
            info.external_attr, info.compress_type = mode << 16, method
            if info.filename not in file.namelist():
                file.writestr(info, body)
    found = bytearray(content.getvalue())
    starts = [place for place in range(len(found)) if found[place : place + 4] == b"PK\x01\x02"]
    for which, offset, number in fields:
        struct.pack_into("<I", found, starts[which % len(starts)] + offset, number)
    return bytes(found)


def pngs(whole: bytes) -> Bytes:
    """A PNG with other chunks and correct checksums."""
    chunks, place = [], 8
    while place < len(whole):
        length = int.from_bytes(whole[place : place + 4], "big")
        chunks.append((whole[place + 4 : place + 8], whole[place + 8 : place + 8 + length]))
        place += 12 + length
    head = st.tuples(
        *[st.sampled_from([0, 1, 2, 9, 20_000, 2**31 - 1])] * 2, st.sampled_from([1, 2, 4, 8, 16, 3]), st.integers(0, 7)
    )
    heads = head.map(lambda of: (b"IHDR", struct.pack(">IIBB", *of) + b"\0\0\0"))
    kinds = st.sampled_from(
        [b"acTL", b"fcTL", b"fdAT", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"PLTE", b"tRNS", b"IDAT", b"pHYs"]
    )
    bomb = zlib.compress(bytes(200_000))
    bodies = st.binary(max_size=30) | st.sampled_from(
        [b"a\0\0" + bomb, bomb, struct.pack(">II", 9, 0), b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"]
    )
    edit = st.tuples(st.integers(0, 2), st.integers(0, 9), heads | st.tuples(kinds, bodies))
    return st.lists(edit, max_size=3).map(lambda edits: _png(chunks, edits)) | edited(st.just(whole))


def _png(chunks, edits) -> bytes:
    chunks = list(chunks)
    for kind, place, new in edits:
        place %= len(chunks)
        chunks[place : place + (kind < 2)] = [new] * (kind != 1) or []
        chunks = chunks or [new]
    packed = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def rezipped(whole: bytes, edit: Callable[[Bytes], Bytes] = edited) -> Bytes:
    """A stored zip, as torch.save writes it, with one entry edited and correct checksums."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]

    def with_entry(of: tuple[int, bytes, int]) -> bytes:
        place, body, method = of
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", method) as archive:
            for number, (name, old) in enumerate(entries):
                archive.writestr(name, body if number == place else old)
        return content.getvalue()

    changed = st.integers(0, len(entries) - 1).flatmap(
        lambda place: st.tuples(
            st.just(place), edit(st.just(entries[place][1])), st.sampled_from([0, 0, 0, zipfile.ZIP_DEFLATED])
        )
    )
    return changed.map(with_entry) | edited(st.just(whole))


def npys(whole: bytes) -> Bytes:
    """A .npy file with another header of the right length."""
    shapes = ["()", "(2,)", "(2, 64, 3)", "(2, 64, -3)", "(10**9, 10**9)", f"({2**62},)", "(1e5,)", "2", "(True,)", "((1,),)"]
    kinds = ["<f4", "<f8", "|O", "|S5", "<U2", "|V4", ">f4", "|b1", "<M8[s]", "zz", "('<f4', (2,))"]
    order = st.sampled_from(["True", "False", "1", "'x'"])
    head = st.tuples(st.sampled_from(kinds), order, st.sampled_from(shapes)).map(
        lambda of: f"{{'descr': '{of[0]}', 'fortran_order': {of[1]}, 'shape': {of[2]}, }}".encode()
    )
    start = 10 + int.from_bytes(whole[8:10], "little")
    with_head = (head | edited(head)).map(
        lambda text: whole[:8] + struct.pack("<H", len(text) + 1) + text + b"\n" + whole[start:]
    )
    return with_head | edited(st.just(whole))


def yamls(text: str) -> Bytes:
    """YAML with odd lines in it: tags, anchors, double and merged keys, odd numbers and dates."""
    odd = [
        "? [a]",
        "x: &a [*a]",
        "<<: {a: 1}",
        "x: !!python/object/apply:os.system ['touch canary']",
        "x: !!int ''",
        "x: !!float z",
    ]
    odd += [
        "x: 2001-99-99",
        "x: .nan",
        "x: .inf",
        "x: 1:99:99",
        "x: !!binary '$'",
        "x: !!timestamp z",
        "x: !!bool z",
        "- 1",
        "x: \t",
    ]
    odd += [
        "x: " + "[" * 400,
        "x: 1" + "0" * 5000,
        "x: &a [1,1,1,1,1,1,1,1,1]\ny: &b [*a,*a,*a,*a,*a,*a,*a]\nz: [*b,*b,*b,*b,*b]",
        "\0",
    ]
    lines = text.splitlines()
    edit = st.tuples(
        st.integers(0, len(lines)), st.integers(0, 3), st.sampled_from(odd) | st.sampled_from(lines), st.integers(0, 4)
    )

    def with_lines(edits) -> bytes:
        found = list(lines)
        for place, length, line, indent in edits:
            found[place : place + length] = [" " * indent + line]
        return "\n".join(found).encode()

    return st.lists(edit, min_size=1, max_size=3).map(with_lines) | edited(st.just(text.encode()))
