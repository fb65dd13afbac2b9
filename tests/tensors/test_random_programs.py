"""Random programs of views, in-place writes, reductions and arithmetic, run by PyTorch and by Juanji side by side.

After every step all live tensors are compared: values, shapes, types, whether they require gradients; at the end the
gradients of the leaves. Where PyTorch refuses a step, Juanji has to refuse it too, and the other way round.
"""

import operator
import random

import numpy as np
import pytest

import juanji as jj

STEPS = 25
DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool", "float32", "float64", "float64")


#: PyTorch refuses writes through views that came several at once, even where it only looks at them.
SEVERAL = "function that returns multiple views"
#: What PyTorch refuses and Juanji computes: it saves a copy, or computes beside the memory it then writes.
GENEROUS = (
    "modified by an inplace operation",
    "refer to a single memory location",
    "derivative for aten::floor_divide is not implemented",
    "without overflow",
    SEVERAL,
)


class Both:
    """A PyTorch tensor and the Juanji tensor that should equal it."""

    def __init__(self, theirs, mine):
        self.theirs, self.mine = theirs, mine


class Stop(Exception):
    """The rest of the program cannot be compared."""


class Program:
    def __init__(self, torch, seed):
        self.torch, self.random, self.numbers = torch, random.Random(seed), np.random.default_rng(seed)
        self.pool, self.leaves, self.trace = [], [], []
        for _ in range(3):
            self.leaf()

    # -- operands -------------------------------------------------------------------------------------------------
    def shape(self):
        rank = self.random.choice((0, 1, 2, 2, 3))
        return tuple(
            self.random.choice((1, 2, 3, 3, 4, 0) if self.random.random() < 0.1 else (1, 2, 3, 4)) for _ in range(rank)
        )

    def leaf(self):
        dtype, shape = self.random.choice(DTYPES), self.shape()
        array = self.numbers.integers(0 if dtype in ("uint8", "bool") else -3, 4, shape)
        array = np.asarray(array / 2 if "float" in dtype else array).astype(dtype)
        grad = "float" in dtype and self.random.random() < 0.6
        both = Both(self.torch.tensor(array, requires_grad=grad), jj.tensor(array, requires_grad=grad))
        self.trace.append(f"leaf {dtype} {shape} {grad}")
        self.pool.append(both)
        self.leaves.append(both)
        return both

    def pick(self):
        return self.random.choice(self.pool[-6:])

    def target(self):
        """A tensor to write to: not one whose elements share memory, which Juanji refuses and PyTorch often allows."""
        fitting = [
            b for b in self.pool[-6:] if all(s or e < 2 for s, e in zip(b.mine.stride(), b.mine.shape, strict=True))
        ]
        return self.random.choice(fitting or [self.leaf()])

    def like(self, both):
        """A tensor that broadcasts against `both`, or whatever there is, or a number."""
        roll = self.random.random()
        if roll < 0.35:
            return self.random.choice((2, -1, 0, 3, 0.5, -1.5, 2.0, True))
        if roll < 0.85:
            shape = tuple(both.theirs.shape)
            fitting = [b for b in self.pool if self.broadcasts(tuple(b.theirs.shape), shape)]
            return self.random.choice(fitting)
        return self.pick()

    @staticmethod
    def broadcasts(a, b):
        return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b), strict=False))

    # -- steps ----------------------------------------------------------------------------------------------------
    def step(self):
        kind = self.random.choice(
            ("binary",) * 4 + ("inplace",) * 4 + ("unary",) * 2 + ("unary_inplace", "reduce", "reduce", "arg")
            + ("view",) * 5 + ("assign",) * 3 + ("leaf", "cast", "compare", "where", "cat", "clone", "detach", "toggle")
            + ("gather", "power", "several", "several", "select", "masked", "detached", "data", "inplace_view")
        )  # fmt: skip
        getattr(self, kind)()

    def apply(self, text, function, *operands, quiet=False):
        """Runs `function(library, *values)` twice and compares."""
        names = " ".join(f"#{self.pool.index(o)}" for o in operands if isinstance(o, Both))
        self.trace.append(f"{text} {names}")
        results = []
        for library, side in ((self.torch, "theirs"), (jj, "mine")):
            values = [getattr(o, side) if isinstance(o, Both) else o for o in operands]
            try:
                results.append(function(library, *values))
            except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, ZeroDivisionError) as error:
                results.append(error)
        theirs, mine = results
        if not isinstance(mine, Exception) and any(part in str(theirs) for part in GENEROUS):
            raise Stop
        if isinstance(theirs, Exception) or isinstance(mine, Exception):
            both = isinstance(theirs, Exception) and isinstance(mine, Exception)
            assert both or self.allowed(theirs, mine), f"{self.story()}\nPyTorch: {theirs!r}\nJuanji: {mine!r}"
            if text == "backward":
                raise Stop  # some gradients may have been accumulated before the error
            return None
        if quiet:
            return None
        self.same(Both(theirs, mine))
        self.pool.append(Both(theirs, mine))
        self.trace[-1] += f" -> #{len(self.pool) - 1}"
        return self.pool[-1]

    @staticmethod
    def allowed(theirs, mine):
        """Known refusals of one side: neither gives a wrong result."""
        text = str(theirs) + str(mine)
        return any(
            part in text
            for part in (
                "not implemented for",  # PyTorch has no kernel for the element type
                "is not available",  # Juanji says so itself
            )
        )

    def story(self):
        return "\n".join(self.trace)

    def same(self, both):
        theirs, mine = both.theirs, both.mine
        assert tuple(theirs.shape) == tuple(mine.shape), self.story()
        assert str(theirs.dtype).split(".")[1] == mine.dtype.name, f"{self.story()}\n{theirs.dtype} {mine.dtype}"
        assert theirs.requires_grad == mine.requires_grad, (
            f"{self.story()}\nrequires_grad: PyTorch {theirs.requires_grad}"
        )
        assert theirs.is_leaf == mine.is_leaf, f"{self.story()}\nis_leaf: PyTorch {theirs.is_leaf}"
        a, b = theirs.detach().numpy(), mine.detach().numpy()
        with np.errstate(all="ignore"):
            close = np.allclose(a, b, 1e-4, 1e-4, equal_nan=True) if a.dtype.kind == "f" else (a == b).all()
        assert close, f"{self.story()}\nPyTorch: {a}\nJuanji: {b}"

    def binary(self):
        name = self.random.choice(
            ("add", "sub", "mul", "truediv", "floordiv", "mod", "maximum", "minimum", "and_", "or_", "xor")
        )
        a = self.pick()
        b = self.like(a)
        if name in ("floordiv", "mod") and self.risky(b):
            return
        if name in ("maximum", "minimum"):
            if isinstance(b, Both):
                self.apply(name, lambda lib, x, y: getattr(lib, name)(x, y), a, b)
            return
        function = getattr(operator, name)
        swapped = self.random.random() < 0.3 and not (name in ("floordiv", "mod") and self.risky(a))
        self.apply(
            f"{name} {b if not isinstance(b, Both) else ''} {swapped}",
            lambda lib, x, y: function(y, x) if swapped else function(x, y),
            a,
            b,
        )

    def risky(self, divisor):
        """Integer division by zero and by whole-numbered floats of huge quotients: undefined or rounded otherwise."""
        if isinstance(divisor, Both):
            values = divisor.theirs.detach().numpy()
            return bool((values == 0).any()) or divisor.theirs.dtype.is_floating_point
        return divisor == 0

    def inplace(self):
        name = self.random.choice(("iadd", "isub", "imul", "itruediv", "copy_", "fill_", "zero_", "add_", "iand"))
        a = self.target()
        b = self.like(a)
        if name == "zero_":
            self.apply(name, lambda lib, x: x.zero_(), a, quiet=True)
        elif name == "fill_":
            value = b if not isinstance(b, Both) else 1
            self.apply(f"{name} {value}", lambda lib, x: x.fill_(value), a, quiet=True)
        elif name == "copy_":
            if isinstance(b, Both):
                self.apply(name, lambda lib, x, y: x.copy_(y), a, b, quiet=True)
        elif name == "add_":
            self.apply(f"{name} alpha", lambda lib, x, y: x.add_(y, alpha=2), a, b, quiet=True)
        else:
            function = getattr(operator, name)
            self.apply(
                f"{name} {b if not isinstance(b, Both) else ''}", lambda lib, x, y: function(x, y), a, b, quiet=True
            )

    def unary(self):
        name = self.random.choice(
            (
                "neg",
                "abs",
                "exp",
                "tanh",
                "sigmoid",
                "relu",
                "sign",
                "floor",
                "ceil",
                "round",
                "trunc",
                "square",
                "sin",
                "reciprocal",
                "isnan",
            )
        )
        self.apply(name, lambda lib, x: getattr(x, name)(), self.pick())

    def unary_inplace(self):
        name = self.random.choice(("neg_", "abs_", "tanh_", "relu_", "sigmoid_", "square_", "floor_", "sin_"))
        self.apply(name, lambda lib, x: getattr(x, name)(), self.target(), quiet=True)

    def power(self):
        exponent = self.random.choice((2, 3, -1, 1, 0, 2.0, 1.5, -2, 4))
        self.apply(f"pow {exponent}", lambda lib, x: x**exponent, self.pick())

    def several(self):
        """Views that come several at once."""
        a, name = self.pick(), self.random.choice(("chunk", "split", "unbind", "tensor_split"))
        shape = tuple(a.theirs.shape)
        if not shape or 0 in shape:
            return
        dim = self.random.randrange(len(shape))
        count = self.random.randint(1, 3)
        part = self.random.randrange(4)

        def function(lib, x):
            parts = x.unbind(dim) if name == "unbind" else getattr(x, name)(count, dim)
            return parts[part % len(parts)]

        self.apply(f"{name} {count} {dim} {part}", function, a)

    def select(self):
        """A view of one row, of a part, of a diagonal or with dimensions moved."""
        a, name = self.pick(), self.random.choice(("select", "narrow", "diagonal", "movedim", "swapaxes", "unflatten"))
        shape = tuple(a.theirs.shape)
        if not shape or 0 in shape:
            return
        rank = len(shape)
        dim, other = self.random.randrange(rank), self.random.randrange(rank)
        at = self.random.randrange(shape[dim])
        if name == "select":
            self.apply(f"select {dim} {at}", lambda lib, x: x.select(dim, at), a)
        elif name == "narrow":
            self.apply(f"narrow {dim} {at}", lambda lib, x: x.narrow(dim, at, shape[dim] - at), a)
        elif name == "diagonal" and rank > 1 and dim != other:
            offset = self.random.choice((0, 0, 1, -1))
            self.apply(f"diagonal {offset} {dim} {other}", lambda lib, x: x.diagonal(offset, dim, other), a)
        elif name in ("movedim", "swapaxes"):
            self.apply(f"{name} {dim} {other}", lambda lib, x: getattr(x, name)(dim, other), a)
        elif name == "unflatten":
            self.apply(f"unflatten {dim}", lambda lib, x: x.unflatten(dim, (1, shape[dim])), a)

    def masked(self):
        """Writing where a condition on the values holds."""
        a = self.target()
        limit, value = self.random.choice((0, 0.5, 1)), self.random.choice((2, -1.5, 0))
        value = value if a.theirs.is_floating_point() else 2
        name = self.random.choice(("masked_fill_", "assign"))

        def function(lib, x):
            where = x.detach() > limit
            if name == "assign":
                x[where] = value
            else:
                x.masked_fill_(where, value)

        self.apply(f"{name} > {limit} {value}", function, a, quiet=True)

    def inplace_view(self):
        """Writing through a view that nobody keeps."""
        a, b = self.target(), self.random.choice((2, 0.5, -1))
        shape = tuple(a.theirs.shape)
        if not shape or 0 in shape:
            return
        name = self.random.choice(("iadd", "imul"))
        way = self.random.choice(("select", "t", "reshape", "unsqueeze", "narrow"))

        def function(lib, x):
            view = {
                "select": lambda: x.select(0, shape[0] - 1), "t": lambda: x.transpose(0, -1),
                "reshape": lambda: x.view(x.shape), "unsqueeze": lambda: x.unsqueeze(0), "narrow": lambda: x.narrow(0, 0, 1),
            }[way]()  # fmt: skip
            getattr(operator, name)(view, b)

        self.apply(f"{name} {b} through {way}", function, a, quiet=True)

    def detached(self):
        """Writing to a detached tensor writes to the one it came from, whose gradient then may be refused."""
        a, value = self.target(), self.random.choice((1, 2, 0.5))
        self.apply(f"detach().add_({value})", lambda lib, x: x.detach().add_(value), a, quiet=True)

    def data(self):
        """Writing to `.data`: nobody is told, the version stays."""
        a, value = self.target(), self.random.choice((1, 2))
        if not a.theirs.is_leaf:
            return
        self.apply(f".data.mul_({value})", lambda lib, x: x.data.mul_(value), a, quiet=True)

    def reduce(self):
        name = self.random.choice(
            ("sum", "mean", "prod", "amax", "amin", "any", "all", "var", "std", "max", "min", "logsumexp")
        )
        a, keep = self.pick(), self.random.random() < 0.5
        rank = a.theirs.dim()
        if name in ("var", "std") and 1 in (a.theirs.numel(), *a.theirs.shape):
            return  # of one number: NaN
        if self.random.random() < 0.4 or rank == 0 or name == "logsumexp":
            if name == "logsumexp":
                self.apply("logsumexp", lambda lib, x: x.logsumexp(0), a)
            else:
                self.apply(name, lambda lib, x: getattr(x, name)(), a)
            return
        dim = self.random.randrange(-rank, rank)
        if name in ("max", "min"):
            for part in range(2):
                self.apply(f"{name} {dim} {keep} {part}", lambda lib, x, p=part: getattr(x, name)(dim, keep)[p], a)
        else:
            self.apply(f"{name} {dim} {keep}", lambda lib, x: getattr(x, name)(dim, keepdim=keep), a)

    def arg(self):
        a, name = self.pick(), self.random.choice(("argmax", "argmin"))
        rank = a.theirs.dim()
        dim = None if rank == 0 else self.random.choice((None, self.random.randrange(-rank, rank)))
        self.apply(f"{name} {dim}", lambda lib, x: getattr(x, name)(dim), a)

    def index(self, shape):
        """A basic index into `shape`."""
        items = []
        for extent in shape:
            roll = self.random.random()
            if roll < 0.2 and extent:
                items.append(self.random.randrange(-extent, extent))
            elif roll < 0.7:
                a, b = sorted((self.random.randint(0, extent), self.random.randint(0, extent)))
                items.append(slice(a, b, self.random.choice((None, 1, 2))))
            else:
                items.append(slice(None))
        if self.random.random() < 0.2:
            items.insert(self.random.randint(0, len(items)), None)
        if self.random.random() < 0.3:
            items = [*items[: len(items) // 2], ...] if None not in items else items
        return tuple(items)

    def view(self):
        a = self.pick()
        shape, rank = tuple(a.theirs.shape), a.theirs.dim()
        name = self.random.choice(
            ("index", "index", "reshape", "view", "permute", "squeeze", "unsqueeze", "expand", "flatten", "T")
        )
        if name == "index":
            key = self.index(shape)
            self.apply(f"[{key}]", lambda lib, x: x[key], a)
        elif name in ("reshape", "view", "flatten") and a.theirs.is_contiguous() != a.mine.is_contiguous():
            return  # PyTorch keeps a permuted memory order where Juanji's results are contiguous
        elif name in ("reshape", "view"):
            size = a.theirs.numel()
            target = (
                self.random.choice([(size,), (-1,), (1, size), (size, 1), tuple(reversed(shape))]) if size else shape
            )
            self.apply(f"{name} {target}", lambda lib, x: getattr(x, name)(target), a)
        elif name == "permute":
            order = self.random.sample(range(rank), rank)
            self.apply(f"permute {order}", lambda lib, x: x.permute(*order) if order else x.permute(()), a)
        elif name == "squeeze":
            self.apply(name, lambda lib, x: x.squeeze(), a)
        elif name == "unsqueeze":
            dim = self.random.randint(-rank - 1, rank)
            self.apply(f"unsqueeze {dim}", lambda lib, x: x.unsqueeze(dim), a)
        elif name == "expand":
            target = (2, *(3 if e == 1 and self.random.random() < 0.5 else -1 for e in shape))
            self.apply(f"expand {target}", lambda lib, x: x.expand(*target), a)
        elif name == "flatten":
            self.apply(name, lambda lib, x: x.flatten(), a)
        elif rank == 2:
            self.apply(name, lambda lib, x: x.T, a)

    def assign(self):
        a = self.target()
        key, value = self.index(tuple(a.theirs.shape)), self.like(a)
        if isinstance(value, Both) and value.theirs.requires_grad and not a.theirs.is_floating_point():
            return  # PyTorch lets the integers require gradients then

        def function(lib, x, v):
            x[key] = v

        self.apply(f"[{key}] = {value if not isinstance(value, Both) else ''}", function, a, value, quiet=True)

    def gather(self):
        """Reading and writing by integer and boolean arrays."""
        a = self.target()
        shape = tuple(a.theirs.shape)
        if not shape or 0 in shape:
            return
        if self.random.random() < 0.5:
            key = self.numbers.random(shape) < 0.5
        else:
            key = self.numbers.integers(-shape[0], shape[0], 3)
        if self.random.random() < 0.6:
            self.apply(f"[array {key.tolist()}]", lambda lib, x: x[lib.tensor(key)], a)
        elif key.dtype == bool or len(set((key % shape[0]).tolist())) == 3:

            def function(lib, x):
                x[lib.tensor(key)] = 2

            self.apply(f"[array {key.tolist()}] = 2", function, a, quiet=True)

    def cast(self):
        name = self.random.choice(DTYPES)
        a = self.pick()
        if "float" not in name and not np.isfinite(a.theirs.detach().numpy().astype(np.float64)).all():
            return  # undefined
        if name in ("uint8", "int32") and abs(a.theirs.detach().double().numpy()).max(initial=0) > 2**31 - 1:
            return
        if name == "uint8" and a.theirs.dtype.is_floating_point and (a.theirs.detach().numpy() < 0).any():
            return
        self.apply(f"to {name}", lambda lib, x: x.to(getattr(lib, name)), a)

    def compare(self):
        a = self.pick()
        b, name = self.like(a), self.random.choice(("lt", "le", "gt", "ge", "eq", "ne"))
        self.apply(
            f"{name} {b if not isinstance(b, Both) else ''}", lambda lib, x, y: getattr(operator, name)(x, y), a, b
        )

    def where(self):
        a, b = self.pick(), self.pick()
        if self.broadcasts(tuple(a.theirs.shape), tuple(b.theirs.shape)):
            self.apply("where", lambda lib, x, y: lib.where(x > 0, x, y), a, b)

    def cat(self):
        a, b = self.pick(), self.pick()
        name = self.random.choice(("cat", "stack"))
        if (0,) in (tuple(a.theirs.shape), tuple(b.theirs.shape)):
            return
        self.apply(name, lambda lib, x, y: getattr(lib, name)([x, y]), a, b)

    def clone(self):
        self.apply("clone", lambda lib, x: x.clone(), self.pick())

    def detach(self):
        self.apply("detach", lambda lib, x: x.detach(), self.pick())

    def toggle(self):
        def function(lib, x):
            with lib.no_grad():
                return x * 2

        self.apply("no_grad", function, self.pick())

    # -- the end --------------------------------------------------------------------------------------------------
    def run(self):
        try:  # noqa: SIM105
            self.steps()
        except Stop:
            pass

    def steps(self):
        for _ in range(STEPS):
            self.step()
            for both in self.pool:
                self.same(both)
        wanted = [b for b in self.pool if b.theirs.requires_grad]
        for both in wanted[-2:]:
            # Large and undefined numbers make gradients that differ for good reasons.
            if (
                not np.isfinite(both.theirs.detach().numpy()).all()
                or abs(both.theirs.detach().numpy()).max(initial=0) > 1e6
            ):
                continue
            self.apply("backward", lambda lib, x: (x * x).sum().backward(retain_graph=True), both, quiet=True)
        for both in self.leaves:
            a, b = both.theirs.grad, both.mine.grad
            assert (a is None) == (b is None), f"{self.story()}\ngrad: PyTorch {a}, Juanji {b}"
            if a is not None:
                assert np.allclose(a.numpy(), b.numpy(), 1e-3, 1e-3, equal_nan=True), f"{self.story()}\n{a}\n{b}"


@pytest.mark.filterwarnings("ignore")  # PyTorch warns of what it has deprecated
@pytest.mark.parametrize("seed", range(60))
def test_random_program(torch, seed):
    try:
        Program(torch, seed).run()
    except RuntimeError as error:
        if SEVERAL not in str(error):
            raise
