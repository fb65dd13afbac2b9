"""The LeNet step of `lenet_step.py` as JAX and TensorFlow users would write it: images N, H, W, C.

Each gives the step, and the function that waits for its loss.
"""

from __future__ import annotations

from typing import Any


def jax_step(batch: int, lr: float, momentum: float) -> Any:
    """One jitted function, its parameters donated."""
    import functools

    import jax
    import jax.numpy as jnp
    from jax import lax

    def forward(p: Any, x: Any) -> Any:
        for w, b in p[:2]:
            x = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
            x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(x.shape[0], -1)
        for w, b in p[2:4]:
            x = jax.nn.relu(x @ w + b)
        return x @ p[4][0] + p[4][1]

    def loss(p: Any, x: Any, y: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(forward(p, x)), y[:, None], 1).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(p: Any, v: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(p, x, y)
        v = jax.tree.map(lambda v, g: momentum * v + g, v, grads)
        return jax.tree.map(lambda p, v: p - lr * v, p, v), v, value

    keys = iter(jax.random.split(jax.random.key(0), 8))
    shapes = [(3, 3, 1, 6), (3, 3, 6, 16), (400, 120), (120, 84), (84, 10)]
    parameters = [(jax.random.normal(next(keys), s) * 0.1, jnp.zeros(s[-1])) for s in shapes]
    state = [parameters, jax.tree.map(jnp.zeros_like, parameters)]
    images, labels = jax.random.uniform(next(keys), (batch, 28, 28, 1)), jnp.arange(batch) % 10

    def run() -> Any:
        state[0], state[1], value = update(state[0], state[1], images, labels)
        return value

    return run, float


def tensorflow_step(batch: int, lr: float, momentum: float) -> Any:
    """One `tf.function` with variables."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    shapes = [(3, 3, 1, 6), (3, 3, 6, 16), (400, 120), (120, 84), (84, 10)]
    p = [tf.Variable(tf.random.normal(s) * 0.1) for s in shapes] + [tf.Variable(tf.zeros(s[-1])) for s in shapes]
    velocity = [tf.Variable(tf.zeros_like(v)) for v in p]
    images, labels = tf.random.uniform((batch, 28, 28, 1)), tf.range(batch) % 10

    @tf.function
    def update(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            for i in (0, 1):
                x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, p[i], 1, "VALID"), p[5 + i]))
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            x = tf.reshape(x, (batch, 400))
            for i in (2, 3):
                x = tf.nn.relu(x @ p[i] + p[5 + i])
            logits = x @ p[4] + p[9]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        for parameter, v, gradient in zip(p, velocity, tape.gradient(loss, p), strict=True):
            v.assign(momentum * v + gradient)
            parameter.assign_sub(lr * v)
        return loss

    return (lambda: update(images, labels)), float
