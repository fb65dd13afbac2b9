"""A copy of two or three planes to pixels: red, green and blue side by side."""

from __future__ import annotations

from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.target import DTYPE_BYTES, Target

#: Elements of these sizes are moved as vectors of this type.
_MOVED_AS = {4: "f32", 8: "f64"}


@dataclass(frozen=True)
class InterleaveSpec:
    """Writes element p of each of `planes` planes to place p of a list of pixels, whole vectors at a time.

    Arguments of the kernel: source, destination, pixels of a plane, pixels of a block, blocks of a picture, byte
    strides of the source from picture to picture and from plane to plane, of the destination from picture to picture.
    Chunk c does block `c % blocks` of picture `c / blocks`.

    Args:
        dtype: of the elements, 4 or 8 bytes wide.
        planes: how many, at least 2.

    Example:
        >>> from juanji import target
        >>> "shufflevector" in InterleaveSpec("f32", 3).generate("kernel", target.current())
        True
    """

    dtype: str
    planes: int

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        b, planes = Builder(name, target), self.planes
        size = DTYPE_BYTES[self.dtype]
        moved = _MOVED_AS[size]
        width = target.lanes(moved)
        vtype = vector_type(moved, width)
        source, into = b.arg_ptr(0), b.arg_ptr(1)
        pixels, block, blocks, picture, plane, out_picture = (b.arg_int(2 + i) for i in range(6))

        def woven(loaded: list[str], first: int) -> str:
            """Elements `first` to `first + width` of the pixels."""
            total = loaded[0]
            for k in range(1, planes):
                # What is there already stays in its lane; plane 0 is dealt out with the first step.
                lanes = []
                for lane in range(width):
                    at, own = divmod(first + lane, planes)
                    if own == k:
                        lanes.append(width + at)
                    else:
                        lanes.append(at if k == 1 and own == 0 else lane)
                chosen = ", ".join(f"i32 {lane}" for lane in lanes)
                total = b.op(f"shufflevector {vtype} {total}, {vtype} {loaded[k]}, <{width} x i32> <{chosen}>")
            return total

        with b.loop("%begin", "%end") as chunk:
            image = b.op(f"sdiv i64 {chunk.index}, {blocks}")
            part = b.sub(chunk.index, b.mul(image, blocks))
            start = b.mul(part, block)
            stop = b.min(b.add(start, block), pixels)
            planar = [b.at(b.at(source, b.mul(image, picture)), b.mul(plane, k)) for k in range(planes)]
            out = b.at(into, b.mul(image, out_picture))
            whole = b.add(start, b.op(f"and i64 {b.sub(stop, start)}, {-width}"))
            with b.loop(start, whole, width) as loop:
                loaded = [b.load(moved, width, b.at(p, b.mul(loop.index, size))) for p in planar]
                pixel = b.at(out, b.mul(loop.index, size * planes))
                for k in range(planes):
                    b.store(moved, width, woven(loaded, k * width), b.at(pixel, k * width * size))
            with b.loop(whole, stop) as loop:
                pixel = b.at(out, b.mul(loop.index, size * planes))
                for k, p in enumerate(planar):
                    b.store(moved, 1, b.load(moved, 1, b.at(p, b.mul(loop.index, size))), b.at(pixel, k * size))
        return b.text()
