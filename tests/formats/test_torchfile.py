"""PyTorch's files: what torch.save writes is read, what is malicious or broken is refused, what is written torch reads."""

import io
import pickle
import random
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

import juanji as jj
from juanji.errors import DataError
from juanji.formats import torchfile
from juanji.formats.torchfile import MAGIC

FLOATS = np.arange(6, dtype=np.float32)


STORAGES = (("0", FLOATS.tobytes()),)


def archive(pickled, storages=STORAGES, **others):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("x/data.pkl", pickled)
        for name, content in storages:
            file.writestr(f"x/data/{name}", content)
        for name, content in others.items():
            file.writestr(f"x/{name}", content)
    return target.getvalue()


def legacy(pickled, keys=None, storages=(FLOATS,)):
    keys = (("0",) if b"cpu" in pickled else ()) if keys is None else keys
    parts = [pickle.dumps(v, 2) for v in (MAGIC, 1001, {"little_endian": True, "protocol_version": 1001})]
    parts += [pickled, pickle.dumps(list(keys), 2)]
    parts += [struct.pack("<q", s.size) + s.tobytes() for s in storages]
    return b"".join(parts)


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def sizes(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(count=6, kind=b"FloatStorage", key="0"):
    return b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, **options):
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    arguments = storage(**options) + number(offset) + sizes(shape) + sizes(strides) + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def program(body):
    return b"\x80\x02" + body + b"."


def load(tmp_path, content, name="weights.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return torchfile.read(path)


@pytest.mark.parametrize("make", [archive, legacy])
def test_hand_written_files(tmp_path, make):
    body = (
        b"}(" + text("w") + tensor() + text("t") + tensor((3, 2), (1, 3)) + text("last") + tensor((2,), (1,), 4) + b"u"
    )
    found = load(tmp_path, make(program(body)))
    np.testing.assert_array_equal(found["w"], FLOATS.reshape(2, 3))
    np.testing.assert_array_equal(found["t"], FLOATS.reshape(2, 3).T)
    np.testing.assert_array_equal(found["last"], FLOATS[4:])
    found["w"][:] = 0  # no memory is shared
    assert found["last"][0] == 4


BAD = {
    "os.system": (b"cos\nsystem\n(" + text("true") + b"tR", "asks for os.system"),
    "eval": (b"cbuiltins\neval\n(" + text("1") + b"tR", "asks for builtins.eval"),
    "named": (b"cposix\nsystem\n", "asks for posix.system"),
    "stack global": (text("os") + text("system") + b"\x93(" + text("true") + b"tR", "asks for os.system"),
    "dotted": (text("torch") + text("os.system") + b"\x93)R", r"asks for torch.os.system"),
    "line feed": (text("a\nb") + text("c") + b"\x93", r"asks for a\\nb.c"),
    "instance": (b"(i" + b"os\nsystem\n.", "INST"),
    "object": (b"(cos\nsystem\n" + text("true") + b"o", "os.system"),
    "obj": (b"(N" + b"o", "OBJ"),
    "newobj": (b"c__main__\nNet\n)\x81", "asks for __main__.Net"),
    "newobj_ex": (b"N)}\x92", "NEWOBJ_EX"),
    "extension": (b"\x82\x01", "EXT1"),
    "build": (b"}}" + b"b", "sets attributes of a dict"),
    "build ordered": (b"ccollections\nOrderedDict\n)R}" + text("__class__") + b"Nsb", "sets attributes"),
    "build class": (b"ccollections\nOrderedDict\n}b", "sets attributes of a Global"),
    "calls a value": (text("x") + b")R", "calls a str"),
    "calls a call": (b"ccollections\nOrderedDict\n)R)R", "calls a OrderedDict"),
    "no function": (b"ctorch\nFloatStorage\n)R", "arguments that don't fit"),
    "bare name": (b"ccollections\nOrderedDict\n", "bare collections.OrderedDict"),
    "bare storage": (storage(), "bare storage"),
    "foreign reference": (text("module") + b"Q", "refers to something outside"),
    "deep list": (b"]" * 100_000 + b"a" * 99_999, "nested more than 64"),
    "deep tuple": (b")" + b"\x85" * 100_000, "nested more than 64"),
    "itself": (b"]q\x00h\x00a", "contains itself"),
    "itself, dict": (b"}q\x00" + text("a") + b"h\x00s", "contains itself"),
    "memo bomb": (b"]" + b"".join(b"q%c0](h%ch%ce" % (i, i, i) for i in range(60)), "unfolds"),
    "huge integer": (b"\x8b\xff\xff\xff\x7f", "integer of 2,147,483,647 bytes"),
    "long integer": (b"\x8b\x00\x01\x00\x00" + b"\x01" * 256, "integer of 256 bytes"),
    "decimal": (b"L" + b"9" * 900 + b"L\n", "integer in it is none"),
    "endless line": (b"c" + b"a" * 5000, "no end"),
    "huge text": (b"\x8d" + struct.pack("<Q", 2**62), "truncated"),
    "tuple as key": (b"})" + b"Ns", "a tuple is a dictionary's key"),
    "bignum as key": (b"}\x8a\x0a" + b"\x01" * 10 + b"Ns", "a int is a dictionary's key"),
    "float as key": (b"}G" + bytes(8) + b"Ns", "a float is"),
    "no memo": (b"h\x05", "never kept"),
    "empty": (b"", "empty stack"),
    "no mark": (b"NNt", "no beginning"),
    "over the mark": (b"N(\x85", "empty stack"),
    "append to tuple": (b")Na", "appends to a tuple"),
    "odd": (b"}(Nu", "no value"),
    "unknown": (b"\xff", "no instruction 0xff"),
    "protocol": (b"\x80\x09", "protocol 9"),
    "set": (b"\x8f", "EMPTY_SET"),
    "numpy": (b"cnumpy.core.multiarray\nscalar\n", "numpy.core.multiarray.scalar"),
    "quantised": (b"ctorch._utils\n_rebuild_qtensor\n", "torch._utils._rebuild_qtensor"),
    "complex": (tensor(kind=b"ComplexFloatStorage"), "torch.ComplexFloatStorage, which Juanji lacks"),
    "hooks": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + number(0) + sizes([2]) + sizes([1]) + b"\x89]NatR",
        "don't fit|hooks",
    ),
    "storage of 2**50": (tensor(count=2**50), "storages take"),
    "storage of -1": (tensor(count=-1), "without a name or a size"),
    "two sizes": (b"(" + tensor() + tensor(count=5) + b"t", "in two ways"),
    "two kinds": (b"(" + tensor() + tensor(kind=b"IntStorage") + b"t", "in two ways"),
    "outside": (tensor((2, 4), (3, 1)), "reaches to element 6"),
    "offset": (tensor(offset=1), "reaches to element 6"),
    "far offset": (tensor((0,), (1,), 7), "reaches to"),
    "negative stride": (tensor((2, 3), (-3, 1)), "storage and sizes"),
    "negative size": (tensor((-2, 3)), "storage and sizes"),
    "wide stride": (tensor((2, 3), (2**60, 1)), "reaches to"),
    "repeated": (tensor((2**40,), (0,)), "tensors would take"),
    "repeated twice": (b"(" + tensor((2**22,), (0,)) * 12 + b"t", "tensors would take"),
    "without end": (tensor((2**61,) * 30, (0,) * 30), "has the shape"),
    "many dimensions": (tensor((1,) * 40, (1,) * 40), "40 sizes"),
    "strides": (tensor((2, 3), (1,)), "2 sizes and 1 strides"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("make", [archive, legacy])
def test_malicious_pickles_are_refused_by_name(tmp_path, name, make):
    body, message = BAD[name]
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(DataError, match=message) as caught:
            load(tmp_path, make(program(body)))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 10
    assert "weights.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_more_instructions_than_anyone_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("juanji.formats.unpickle.MOST_INSTRUCTIONS", 1000)
    with pytest.raises(DataError, match="more than 1,000 instructions"):
        load(tmp_path, archive(program(b"N0" * 600 + b"N")))


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_runs(tmp_path):
    target = tmp_path / "ran"
    for protocol in range(6):
        for make in (archive, legacy):
            with pytest.raises(DataError):
                load(tmp_path, make(pickle.dumps({"a": Runs(target)}, protocol)))
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic number"),
        (b"PK\x03\x04", "end is missing"),
        (pickle.dumps({"a": 1}), "magic number is missing"),
        (archive(program(b"N"))[:-30], "end is missing"),
        (archive(program(tensor()), ()), "storage '0' is missing"),
        (archive(program(tensor(key="../../0"))), "is missing"),
        (archive(program(tensor()), (("0", b"12"),)), "has 2 bytes, and 24 were announced"),
        (archive(program(b"N"), **{"constants.pkl": b""}), "TorchScript"),
        (archive(program(b"N"), byteorder="middle"), "byte order"),
        (legacy(program(tensor()))[:-1], "truncated"),
        (legacy(program(tensor()), storages=[FLOATS[:5]]), "not as large as announced"),
        (legacy(program(tensor()), keys=("0", "1")), "not those that its tensors use"),
        (legacy(program(b"N"), keys=("0",)), "not those that its tensors use"),
    ],
)
def test_broken_files(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, content)


def test_archives_that_unpack_to_more_than_they_are(tmp_path):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", program(tensor(count=2**20)))
        file.writestr("x/data/0", bytes(2**22))
    with pytest.raises(DataError, match="compressed"):
        load(tmp_path, target.getvalue())
    # The same bytes under two names.
    content = archive(program(b"N"), (("0", FLOATS.tobytes()), ("1", FLOATS.tobytes())))
    entries = [i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"]
    places = [content[i + 42 : i + 46] for i in entries]
    content = content.replace(places[2], places[1])
    with pytest.raises(DataError, match="overlap"):
        load(tmp_path, content)


def test_damage_is_noticed(tmp_path):
    content = bytearray(archive(program(tensor())))
    content[content.index(FLOATS.tobytes()) + 7] ^= 1
    with pytest.raises(DataError, match="checksum of 'x/data/0' is wrong"):
        load(tmp_path, bytes(content))


def good_files():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Linear(4, 2))
    state = {
        "state_dict": net.state_dict(),
        "epoch": 3,
        "lr": [0.1, None, True],
        "name": "卷积",
        "shape": torch.Size([2, 3]),
    }
    for new in (True, False):
        target = io.BytesIO()
        torch.save(state, target, _use_new_zipfile_serialization=new)
        yield target.getvalue()
    yield torchfile.encode({"w": FLOATS, "n": [1, 2.5, "x"], "b": np.array([True, False])})


def test_a_thousand_mutations(tmp_path):
    files = list(good_files())
    generator = random.Random(0)
    messages = []
    began = time.perf_counter()
    tracemalloc.start()
    for turn in range(1000):
        content = bytearray(files[turn % len(files)])
        for _ in range(generator.choice((1, 1, 2, 8))):
            at = generator.randrange(len(content))
            kind = generator.randrange(5)
            if kind == 0:
                content[at] = generator.randrange(256)
            elif kind == 1:
                content[at] ^= 1 << generator.randrange(8)
            elif kind == 2:
                del content[at : at + generator.randrange(1, 64)]
            elif kind == 3:
                content[at:at] = generator.randbytes(generator.randrange(1, 16))
            else:
                other = generator.randrange(len(content))
                content[at : at + 8] = content[other : other + 8]
            if generator.random() < 0.05:
                del content[at:]
            if not content:
                content = bytearray(b"\x80")
        try:
            load(tmp_path, bytes(content))
        except DataError as error:
            messages.append(str(error))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 300 < len(messages) < 1000
    assert all("weights.pth" in m and len(m) < 600 for m in messages)
    assert peak < 64 << 20
    assert time.perf_counter() - began < 60


# What PyTorch writes, and reads.


def same(found, wanted):
    torch = pytest.importorskip("torch")
    if isinstance(wanted, torch.Tensor):
        wanted = wanted.detach()
        values = wanted.float() if wanted.dtype is torch.bfloat16 else wanted
        assert str(found.dtype).partition(".")[2] == str(wanted.dtype).partition(".")[2]
        found = found.float() if found.dtype is jj.bfloat16 else found
        return isinstance(found, jj.Tensor) and np.array_equal(found.numpy(), values.numpy(), equal_nan=True)
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(same(f, w) for f, w in zip(found, wanted, strict=True))
    return found == wanted


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("new", [True, False])
def test_what_torch_saves(tmp_path, new, protocol):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(1, 2, 5, 5)).sum().backward()
    optimizer.step()
    base = torch.arange(24.0).reshape(2, 3, 4)
    kinds = ("float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
    state = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "parameters": list(net.parameters()),
        "views": [base, base[1], base[:, ::2], base.permute(2, 0, 1), base.expand(2, 2, 3, 4), base[..., :0]],
        "kinds": [torch.arange(-2, 5).to(getattr(torch, kind)) for kind in kinds],
        "scalar": torch.tensor(3.5),
        "half scalar": torch.tensor(3.5).bfloat16(),
        "empty": torch.zeros(0, 3),
        "plain": [None, True, -1, 2**40, 1.5, "卷积", b"bytes", (1, (2,)), {3: "x"}, OrderedDict(a=1)],
        "shape": torch.Size([2, 3]),
    }
    path = tmp_path / "state.bin"  # the name says nothing
    torch.save(state, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    assert same(jj.load(path), state)


def test_element_types_devices_and_ties(tmp_path):
    torch = pytest.importorskip("torch")
    one = torch.ones(3)
    torch.save({"dtype": torch.float32, "device": torch.device("cpu"), "a": one, "b": one}, tmp_path / "x.pt")
    found = jj.load(tmp_path / "x.pt")
    assert found["dtype"] is jj.float32
    assert found["device"] == "cpu"
    assert found["a"] is found["b"]


def test_a_whole_model_is_refused_by_its_name(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"torch.nn.modules.linear.Linear.*state_dict\(\)"):
        jj.load(tmp_path / "model.pt")


KINDS = ("float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")


def test_torch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")
    weight = jj.rand(3, 4)
    kinds = [jj.ones(2, 3).to(getattr(jj, k)) for k in KINDS]
    state = {
        "weight": weight, "tied": weight, "t": weight.t(), "scalar": jj.tensor(2.5), "empty": jj.zeros(0, 2),
        "kinds": kinds, "numbers": np.arange(3), "plain": [None, True, -3, 2**40, 0.5, "卷积", (1, ())], 7: {},
    }  # fmt: skip
    jj.save(state, tmp_path / "state.pth")
    found = torch.load(tmp_path / "state.pth", weights_only=True)
    assert torch.load(tmp_path / "state.pth", weights_only=True, mmap=True)["weight"].shape == (3, 4)
    np.testing.assert_array_equal(found["weight"].numpy(), weight.numpy())
    np.testing.assert_array_equal(found["t"].numpy(), weight.numpy().T)
    assert found["tied"].data_ptr() == found["weight"].data_ptr()
    assert found["scalar"].item() == 2.5
    assert found["empty"].shape == (0, 2)
    for mine, theirs in zip(kinds, found["kinds"], strict=True):
        assert same(mine, theirs)
    assert found["numbers"].tolist() == [0, 1, 2]
    assert found["plain"] == state["plain"]
    assert found[7] == {}
    back = jj.load(tmp_path / "state.pth")
    assert same({k: v for k, v in back.items() if k != "numbers"}, {k: v for k, v in found.items() if k != "numbers"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {1.5: 2}}, "a has the key 1.5"),
        ({"a": [object()]}, "a.0 is a object"),
        ({"a": 2**70}, "more than 64 bits"),
        ({"a": np.ones(2, np.complex64)}, "a has the element type complex64"),
    ],
)
def test_what_cannot_be_written(tmp_path, value, message):
    with pytest.raises(TypeError, match=message):
        jj.save(value, tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()
