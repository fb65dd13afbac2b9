"""Gradients of pooling.

Where windows do not overlap, each owns the image elements from its origin to the next window's, and writes
them all. Where they may overlap, each image element gathers from the windows that cover it. Either way every
element is written once and sums have one order.
"""

from __future__ import annotations

import itertools

from juanji.codegen.window_base import UNROLL, Writer

_UNROLL_STORES = 36  # most elements of one window's share written out one by one
_VARIANTS = 4  # most combinations of window counts written out for overlapping windows


class Owned(Writer):
    """max_grad, and avg_grad of windows that do not overlap."""

    def prepare(self) -> None:
        """Strides between taps, ranges of windows inside the image."""
        b, spec = self.b, self.spec
        self.unrolled = spec.kernel[0] * spec.kernel[1] <= UNROLL and spec.stride[0] * spec.stride[1] <= _UNROLL_STORES
        self.inner_columns = self.inner(1, spec.stride[1])
        self.zero = self.v.const(spec.dtype, 0)
        self.dy = (self.ins[0], self.in_strides[0])
        self.places = list(itertools.product(range(spec.stride[0]), range(spec.stride[1])))
        self.is_tap = [
            (i * spec.dilation[0], j * spec.dilation[1]) for i, j in itertools.product(*(range(k) for k in spec.kernel))
        ]
        if spec.kind == "max_grad":
            # The taps are those of x, the second input.
            self.ins.reverse()
            self.in_strides.reverse()
            self.tap_strides = self.in_strides[0]
            self.ahead = self.new_steps() if self.unrolled else [[], []]
            self.row_steps = [b.mul(self.tap_strides[1], i) for i in range(spec.stride[0])]
            self.column_steps = [b.mul(self.tap_strides[2], j) for j in range(spec.stride[1])]

    def row(self, image: str, row: str) -> None:
        """One chunk."""
        b, spec = self.b, self.spec
        down, across = spec.stride
        top = self.origin(0, row)
        pointer, strides = self.dy
        given = b.at(pointer, b.add(b.mul(image, strides[0]), b.mul(row, strides[1])))
        source = self.in_row(0, image, top) if spec.kind == "max_grad" else ""
        targets = [self.out_rows(image, b.add(top, i)) for i in range(down)] if self.unrolled else []
        vertical, owned = self.taps(0, top), self.owned(0, top)

        def dy(window: str, channel: str, mask: str | None) -> str:
            return self.value(spec.dtype, given, self.offset(spec.dtype, b.mul(window, strides[2]), channel), mask)

        def middle(window: str) -> None:
            left = self.origin(1, window)
            columns = [self.out_column(b.add(left, j)) for j in range(across)]

            def body(channel: str, mask: str | None) -> None:
                value = dy(window, channel, mask)
                if spec.kind == "avg_grad":
                    share = dict.fromkeys(self.is_tap, self.average(value))
                else:
                    here = self.offset(spec.dtype, b.mul(left, self.tap_strides[2]), channel)
                    share = self.handed_out(value, source, here, mask)
                for i, j in self.places:
                    self.store(targets[i], columns[j], channel, mask, share.get((i, j), self.zero))

            self.over_channels(body)

        def edge(window: str) -> None:
            left = self.origin(1, window)
            horizontal, columns = self.taps(1, left), self.owned(1, left)
            if spec.kind == "avg_grad":
                count = b.mul(self.count(0, top, vertical), self.count(1, left, horizontal))
                with b.loop(*owned) as y:
                    target = self.out_rows(image, y.index)
                    with b.loop(*columns) as x:
                        tap = self.both_taps(b.sub(y.index, top), b.sub(x.index, left))
                        to = self.out_column(x.index)

                        def spread(channel: str, mask: str | None) -> None:
                            value = self.average(dy(window, channel, mask), count)
                            self.store(target, to, channel, mask, self.where(tap, value))

                        self.over_channels(spread)
                return

            def body(channel: str, mask: str | None) -> None:
                here = self.offset(spec.dtype, b.mul(left, self.tap_strides[2]), channel)
                place = self.best_tap(source, here, (vertical, horizontal), mask, across)
                value = dy(window, channel, mask)
                with b.loop(*owned) as y:
                    target = self.out_rows(image, y.index)
                    line = b.mul(b.sub(y.index, top), across)
                    with b.loop(*columns) as x:
                        this = self.splat(self.rel, b.add(line, b.sub(x.index, left)))
                        hit = self.v.compare("eq", self.rel, place, this)
                        share = self.v.select(spec.dtype, hit, value, self.zero)
                        self.store(target, self.out_column(x.index), channel, mask, share)

            self.over_channels(body)

        self.over_windows(self.windows_inside(top, down) if self.unrolled else None, middle, edge)
        self.clear(image, owned, (self.after(1), self.image[1]))
        with b.when(b.compare("eq", b.add(row, 1), self.windows[0])):
            self.clear(image, (self.after(0), self.image[0]), ("0", self.image[1]))

    def handed_out(self, value: str, source: str, here: str, mask: str | None) -> dict[tuple[int, int], str]:
        """What each tap of a window gets: `value` at the maximum of x, else zero."""
        b, v, dtype = self.b, self.v, self.spec.dtype
        taps = [
            self.value(dtype, b.at(source, self.row_steps[i]), b.add(here, self.column_steps[j]), mask)
            for i, j in self.is_tap
        ]
        for step, aside in itertools.product(*self.ahead):
            self.prefetch(b.at(source, step), b.add(here, aside))
        best, won = taps[0], []
        for tap in taps[1:]:
            won.append(self.wins(tap, best))
            best = v.select(dtype, won[-1], tap, best)
        # The last tap that took over is the maximum: the value goes back from there until it is taken.
        share = {}
        for place, took in zip(reversed(self.is_tap[1:]), reversed(won), strict=True):
            share[place] = v.select(dtype, took, value, self.zero)
            value = v.select(dtype, took, self.zero, value)
        share[self.is_tap[0]] = value
        return share

    def both_taps(self, y: str, x: str) -> str:
        """Whether a place within a window's share is one of its taps."""
        b, spec = self.b, self.spec
        answer = "true"
        for axis, distance in enumerate((y, x)):
            answer = b.op(f"and i1 {answer}, {b.compare('sle', distance, spec.span(axis))}")
            if spec.dilation[axis] > 1:
                off = b.op(f"urem i64 {distance}, {spec.dilation[axis]}")
                answer = b.op(f"and i1 {answer}, {b.compare('eq', off, 0)}")
        return answer

    def where(self, condition: str, value: str) -> str:
        """`value` in all lanes or zero in all."""
        vtype = self.v.type(self.spec.dtype)
        return self.b.op(f"select i1 {condition}, {vtype} {value}, {vtype} {self.zero}")

    def owned(self, axis: int, origin: str) -> tuple[str, str]:
        """Image rows or columns from a window's origin to the next one's."""
        b, size = self.b, self.image[axis]
        return b.max(b.min(origin, size), 0), b.min(b.add(origin, self.spec.stride[axis]), size)

    def after(self, axis: int) -> str:
        """First image row or column that no window owns."""
        return self.b.min(self.b.max(self.origin(axis, self.windows[axis]), 0), self.image[axis])

    def clear(self, image: str, rows: tuple[str, str], columns: tuple[str, str]) -> None:
        """Stores zero, through the epilogue, where no window has a tap."""
        b = self.b
        with b.loop(*rows) as y:
            target = self.out_rows(image, y.index)
            with b.loop(*columns) as x:
                to = self.out_column(x.index)
                self.over_channels(lambda channel, mask: self.store(target, to, channel, mask, self.zero))


class Spread(Writer):
    """index_grad and avg_grad for any overlap."""

    def prepare(self) -> None:
        """Strides between taps, ranges of windows inside the image."""
        spec = self.spec
        self.zero = self.v.const(spec.dtype, 0)
        # The most windows that cover one place, by axis.
        self.most = [spec.span(axis) // spec.stride[axis] + 1 for axis in (0, 1)]
        self.unrolled = spec.kind == "index_grad" and self.most[0] * self.most[1] <= _VARIANTS
        self.whole = [self.counted_whole(axis) for axis in (0, 1)] if spec.kind == "avg_grad" else []

    def counted_whole(self, axis: int) -> tuple[str, str]:
        """The range of windows all of whose taps an average counts."""
        b, spec = self.b, self.spec
        if not spec.count_include_pad:
            return self.inner(axis, spec.span(axis) + 1)
        room = b.add(self.image[axis], spec.stride[axis] + 2 * spec.padding[axis] - spec.span(axis) - 1)
        return "0", b.min(self.quotient(room, spec.stride[axis]), self.windows[axis])

    def covering(self, axis: int, place: str) -> tuple[str, str]:
        """The range of windows whose first to last tap enclose an image row or column."""
        b, spec = self.b, self.spec
        step = spec.stride[axis]
        padded = b.add(place, spec.padding[axis])
        first = self.quotient(b.add(padded, step - 1 - spec.span(axis)), step)
        return first, b.min(b.add(self.quotient(padded, step), 1), self.windows[axis])

    def run(self, axis: int, place: str) -> tuple[str, str]:
        """(first, how many) windows: those that cover a place, or where there are none, one that does not.

        One that does not is harmless: its index names another place.
        """
        b = self.b
        first, stop = self.covering(axis, place)
        count = b.max(b.sub(stop, first), 1)
        return b.min(first, b.sub(self.windows[axis], count)), count

    def row(self, image: str, row: str) -> None:
        """One chunk."""
        b = self.b
        target = self.out_rows(image, row)
        if not self.unrolled:
            vertical = self.covering(0, row)
            with b.loop(0, self.image[1]) as loop:
                self.pixel(image, row, vertical, loop.index, target)
            return
        first, count = self.run(0, row)
        below = [self.in_row(k, image, b.add(first, count)) for k in (0, 1)]
        for high in range(1, self.most[0] + 1):
            with b.when(b.compare("eq", count, high)):
                lines = [[self.in_row(k, image, b.add(first, i)) for k in (0, 1)] for i in range(high)]
                with b.loop(0, self.image[1]) as loop:
                    self.columns(lines, below, row, loop.index, target)

    def columns(self, lines: list[list[str]], below: list[str], row: str, column: str, target: list[str]) -> None:
        """One pixel of index_grad, with the windows on it written out."""
        b = self.b
        first, count = self.run(1, column)
        wanted = b.add(b.mul(row, self.image[1]), column)
        to = self.out_column(column)
        for wide in range(1, self.most[1] + 1):
            with b.when(b.compare("eq", count, wide)):
                places = [[b.mul(b.add(first, j), self.in_strides[k][2]) for k in (0, 1)] for j in range(wide)]

                def body(channel: str, mask: str | None, places: list[list[str]] = places) -> None:
                    total = self.zero
                    for line, at in itertools.product(lines, places):
                        total = self.add_where_named(total, line, at, channel, mask, wanted)
                    if len(places) == 1:
                        for pointer, near, dtype in zip(below, places[0], self.spec.inputs, strict=True):
                            self.prefetch(pointer, self.offset(dtype, near, channel))
                    self.store(target, to, channel, mask, total)

                self.over_channels(body)

    def add_where_named(
        self, total: str, lines: list[str], places: list[str], channel: str, mask: str | None, wanted: str
    ) -> str:
        """`total` plus one window's dy in the channels whose index is `wanted`."""
        v, dtype = self.v, self.spec.dtype
        dy = self.value(dtype, lines[0], self.offset(dtype, places[0], channel), mask)
        index = self.value("i64", lines[1], self.offset("i64", places[1], channel), mask)
        hit = v.compare("eq", "i64", index, self.splat("i64", wanted))
        return v.select(dtype, hit, v.add(dtype, total, dy), total)

    def pixel(self, image: str, row: str, vertical: tuple[str, str], column: str, target: list[str]) -> None:
        """One pixel from run-time ranges of windows."""
        b, spec = self.b, self.spec
        to = self.out_column(column)
        horizontal = self.covering(1, column)
        wanted = b.add(b.mul(row, self.image[1]), column)

        def summed(channel: str, mask: str | None, even: bool) -> str:
            v, dtype = self.v, spec.dtype
            with b.loop(*vertical, carried=[(v.type(dtype), self.zero)]) as y:
                lines = [self.in_row(k, image, y.index) for k in range(len(self.ins))]
                with b.loop(*horizontal, carried=[(v.type(dtype), y.values[0])]) as x:
                    places = [b.mul(x.index, self.in_strides[k][2]) for k in range(len(self.ins))]
                    if spec.kind == "index_grad":
                        total = self.add_where_named(x.values[0], lines, places, channel, mask, wanted)
                    else:
                        dy = self.value(dtype, lines[0], self.offset(dtype, places[0], channel), mask)
                        place = ((row, y.index), (column, x.index))
                        total = v.add(dtype, x.values[0], self.portion(dy, place, even))
                    x.next([total])
                y.next(x.results)
            return self.average(y.results[0]) if even else y.results[0]

        if spec.kind == "index_grad":
            self.over_channels(lambda c, mask: self.store(target, to, c, mask, summed(c, mask, False)))
            return
        # Where all counts are equal the division comes last.
        even = "true"
        for (first, stop), (low, high) in zip((vertical, horizontal), self.whole, strict=True):
            for test in (b.compare("sge", first, low), b.compare("sle", stop, high)):
                even = b.op(f"and i1 {even}, {test}")
        with b.when(even):
            self.over_channels(lambda c, mask: self.store(target, to, c, mask, summed(c, mask, True)))
        with b.when(b.op(f"xor i1 {even}, true")):
            self.over_channels(lambda c, mask: self.store(target, to, c, mask, summed(c, mask, False)))

    def portion(self, dy: str, place: tuple[tuple[str, str], tuple[str, str]], even: bool) -> str:
        """What a window's dy gives to a pixel at `place`: ((row, window row), (column, window column))."""
        b, spec = self.b, self.spec
        vtype = self.v.type(spec.dtype)
        origins = [self.origin(axis, window) for axis, (_, window) in enumerate(place)]
        if not even:
            counts = [self.count(axis, at, self.taps(axis, at)) for axis, at in enumerate(origins)]
            dy = self.average(dy, b.mul(counts[0], counts[1]))
        for axis, ((here, _), at) in enumerate(zip(place, origins, strict=True)):
            if spec.dilation[axis] > 1:
                off = b.op(f"urem i64 {b.sub(here, at)}, {spec.dilation[axis]}")
                on = b.compare("eq", off, 0)
                dy = b.op(f"select i1 {on}, {vtype} {dy}, {vtype} {self.zero}")
        return dy
