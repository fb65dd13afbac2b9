"""Pooling, and gathering values by pooling indices."""

from __future__ import annotations

import itertools

from juanji.codegen.lanes import FLOATS
from juanji.codegen.window_base import LOWEST, UNROLL, Writer
from juanji.target import DTYPE_BYTES, LLVM_TYPE


class Pool(Writer):
    """max, avg and max_index."""

    def prepare(self) -> None:
        """Strides between taps, ranges of windows inside the image."""
        b, spec = self.b, self.spec
        self.unrolled = spec.kernel[0] * spec.kernel[1] <= UNROLL
        self.inner_columns = self.inner(1, spec.span(1) + 1)
        self.tap_strides = self.in_strides[0]
        self.steps = self.tap_steps()
        self.ahead = self.new_steps() if self.unrolled else [[], []]
        self.places: list[str] = []
        if spec.kind == "max_index" and self.unrolled:
            for i, j in itertools.product(*(range(k) for k in spec.kernel)):
                place = b.add(b.mul(self.image[1], i * spec.dilation[0]), j * spec.dilation[1])
                self.places.append(place)

    def row(self, image: str, row: str) -> None:
        """One chunk."""
        b, spec = self.b, self.spec
        top = self.origin(0, row)
        source = self.in_row(0, image, top)
        lines = [b.at(source, step) if i else source for i, step in enumerate(self.steps[0])]
        target = self.out_rows(image, row)
        vertical = self.taps(0, top)

        def finish(value: str, left: str) -> str:
            if spec.kind != "max_index":
                return value
            origin = self.splat("i64", b.add(b.mul(top, self.image[1]), left))
            return self.v.op("add", "i64", self.v.cast(self.rel, "i64", value), origin)

        def middle(window: str) -> None:
            left = self.origin(1, window)
            at, to = b.mul(left, self.tap_strides[2]), self.out_column(window)

            def body(channel: str, mask: str | None) -> None:
                here = self.offset(spec.dtype, at, channel)
                offsets = [b.add(here, step) if j else here for j, step in enumerate(self.steps[1])]
                taps = [self.value(spec.dtype, line, offset, mask) for line in lines for offset in offsets]
                for step, aside in itertools.product(*self.ahead):
                    self.prefetch(b.at(source, step), b.add(here, aside))
                self.store(target, to, channel, mask, finish(self.combined(taps), left))

            self.over_channels(body)

        def edge(window: str) -> None:
            left = self.origin(1, window)
            at, to = b.mul(left, self.tap_strides[2]), self.out_column(window)
            horizontal = self.taps(1, left)
            ranges = (vertical, horizontal)
            count = ""
            if spec.kind == "avg":
                count = b.mul(self.count(0, top, vertical), self.count(1, left, horizontal))

            def body(channel: str, mask: str | None) -> None:
                here = self.offset(spec.dtype, at, channel)
                if spec.kind == "max_index":
                    value = self.best_tap(source, here, ranges, mask, self.image[1])
                else:
                    first = self.v.const(self.work, LOWEST[spec.dtype] if spec.kind == "max" else 0)
                    initial = ((self.work, first),)
                    value = self.over_taps(source, here, ranges, mask, initial, self.accumulate)[0]
                    if spec.kind == "avg":
                        value = self.average(value, count)
                self.store(target, to, channel, mask, finish(value, left))

            self.over_channels(body)

        inside = self.windows_inside(top, spec.span(0) + 1) if self.unrolled else None
        self.over_windows(inside, middle, edge)

    def accumulate(self, carried: list[str], tap: str, y: str, x: str) -> list[str]:
        """One more tap of a maximum or a sum."""
        if self.spec.kind == "max":
            return [self.v.minmax("max", self.work, tap, carried[0])]
        tap = self.v.cast(self.spec.dtype, self.work, tap)
        return [self.v.op("fadd" if self.work in FLOATS else "add", self.work, carried[0], tap)]

    def combined(self, taps: list[str]) -> str:
        """The result for a window with all its taps."""
        v, dtype = self.v, self.spec.dtype
        if self.spec.kind == "max_index":
            places = [self.splat(self.rel, place) for place in self.places]
            best, place = taps[0], places[0]
            for tap, other in zip(taps[1:], places[1:], strict=True):
                won = self.wins(tap, best)
                best, place = v.select(dtype, won, tap, best), v.select(self.rel, won, other, place)
            return place
        if self.spec.kind == "avg":
            total = v.cast(dtype, self.work, taps[0])
            for tap in taps[1:]:
                (total,) = self.accumulate([total], tap, "", "")
            return self.average(total)
        best = taps[0]
        if dtype not in FLOATS:
            for tap in taps[1:]:
                best = v.minmax("max", dtype, tap, best)
            return best
        # The instruction keeps a NaN in `best` but drops one in `tap`: look for those two taps at a time.
        lost = ""
        for tap in taps[1:]:
            best = v.minmax("max", dtype, tap, best, a_is_number=True)
        for a, b in itertools.zip_longest(taps[1::2], taps[2::2], fillvalue=taps[-1]):
            either = v.compare("uno", dtype, a, b)
            lost = v.op("or", "b1", lost, either) if lost else either
        return v.select(dtype, lost, v.const(dtype, float("nan")), best) if lost else best


class Gather(Writer):
    """gather."""

    def row(self, image: str, row: str) -> None:
        """One chunk."""
        b, dtype = self.b, self.spec.dtype
        plane = b.at(self.ins[0], b.mul(image, self.in_strides[0][0]))
        line, column = self.in_strides[0][1:]
        source = self.in_row(1, image, row)
        target = self.out_rows(image, row)

        def pixels(flat: bool) -> None:
            with b.loop(0, self.windows[1]) as loop:
                at, to = b.mul(loop.index, self.in_strides[1][2]), self.out_column(loop.index)

                def body(channel: str, mask: str | None) -> None:
                    v = self.v
                    index = self.value("i64", source, self.offset("i64", at, channel), mask)
                    if flat:
                        offset = v.op("mul", "i64", index, self.splat("i64", column))
                    else:
                        across = self.splat("i64", self.image[1])
                        y, x = v.op("udiv", "i64", index, across), v.op("urem", "i64", index, across)
                        down = v.op("mul", "i64", y, self.splat("i64", line))
                        offset = v.op("add", "i64", down, v.op("mul", "i64", x, self.splat("i64", column)))
                    start = b.at(plane, self.scale(channel, DTYPE_BYTES[dtype]))
                    self.store(target, to, channel, mask, self.collected(start, offset, mask))

                self.over_channels(body)

        # Rows that follow one another without a gap need no division.
        whole = b.compare("eq", line, b.mul(column, self.image[1]))
        with b.when(whole):
            pixels(True)
        with b.when(b.op(f"xor i1 {whole}, true")):
            pixels(False)

    def collected(self, start: str, offset: str, mask: str | None) -> str:
        """Lane i from `offset[i]` bytes after channel i of the pixel at `start`."""
        b, dtype, width, vtype = self.b, self.spec.dtype, self.width, self.v.type(self.spec.dtype)
        size, offsets = DTYPE_BYTES[dtype], self.v.type("i64")
        if mask is None:
            # One by one: some processors' gather instruction is several times slower.
            value = "poison"
            for i in range(width):
                distance = b.op(f"extractelement {offsets} {offset}, i64 {i}")
                element = b.load(dtype, 1, b.at(b.at(start, i * size), distance))
                value = b.op(f"insertelement {vtype} {value}, {LLVM_TYPE[dtype]} {element}, i64 {i}")
            return value
        lanes = ", ".join(f"i64 {i * size}" for i in range(width))
        offset = self.v.op("add", "i64", offset, f"<{lanes}>")
        where = b.op(f"getelementptr i8, ptr {start}, {offsets} {offset}")
        overload = f"v{width}{ {'u8': 'i8'}.get(dtype, dtype) }.v{width}p0"
        name = b.declare(
            f"llvm.masked.gather.{overload}",
            f"{vtype} @llvm.masked.gather.{overload}(<{width} x ptr>, i32, <{width} x i1>, {vtype})",
        )
        return b.op(
            f"call {vtype} {name}(<{width} x ptr> {where}, i32 {size}, <{width} x i1> {mask}, {vtype} zeroinitializer)"
        )
