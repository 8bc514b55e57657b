"""The network: a causal transformer over the tokens W A X Y Z of each site, given the space group.

Training evaluates whole sequences (`Policy.outputs`); sampling goes token by token
with the keys and values of earlier tokens kept (`Policy.step`). Both share every
weight and the same block.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from crystalformer_rl.crystal.elements import ELEMENT_FEATURES, element_features
from crystalformer_rl.crystal.site_symmetry import GROUP_FEATURES, SITE_FEATURES, group_features, site_features
from crystalformer_rl.policy.batch import symmetry_arrays
from crystalformer_rl.policy.shape import PolicyShape

TOKENS_PER_SITE = 5
_UNROLL = 4  # layers compiled in a row: faster steps, while deep networks still compile quickly


class Linear(eqx.Module):
    """x @ w + b on the last axis."""

    w: Float[Array, "i o"]
    b: Float[Array, " o"]

    def __call__(self, x: Float[Array, "*n i"]) -> Float[Array, "*n o"]:
        # One matrix product over all rows: on the CPU its gradient is a quarter faster than a batched one's.
        flat = x.reshape(-1, x.shape[-1]) @ self.w
        return flat.reshape(*x.shape[:-1], -1) + self.b

    @staticmethod
    def init(key: PRNGKeyArray, n_in: int, n_out: int, scale: float = 1.0) -> Linear:
        w = jax.random.truncated_normal(key, -2, 2, (n_in, n_out)) * scale / jnp.sqrt(n_in)
        return Linear(w, jnp.zeros(n_out))


class LayerNorm(eqx.Module):
    """Normalization over the last axis, eps 1e-5."""

    scale: Float[Array, " d"]
    offset: Float[Array, " d"]

    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * self.scale + self.offset

    @staticmethod
    def init(size: int) -> LayerNorm:
        return LayerNorm(jnp.ones(size), jnp.zeros(size))


class Block(eqx.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    attention_norm: LayerNorm
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    mlp_norm: LayerNorm
    up: Linear
    down: Linear

    @staticmethod
    def init(key: PRNGKeyArray, shape: PolicyShape) -> Block:
        d, inner = shape.model_size, shape.num_heads * shape.key_size
        keys = jax.random.split(key, 6)
        # Residual branches start small, so that depth does not raise the variance.
        small = (2 * shape.num_layers) ** -0.5
        return Block(
            attention_norm=LayerNorm.init(d),
            query=Linear.init(keys[0], d, inner),
            key=Linear.init(keys[1], d, inner),
            value=Linear.init(keys[2], d, inner),
            output=Linear.init(keys[3], inner, d, small),
            mlp_norm=LayerNorm.init(d),
            up=Linear.init(keys[4], d, shape.widening * d),
            down=Linear.init(keys[5], shape.widening * d, d, small),
        )


class Cache(eqx.Module):
    """Keys and values of the tokens seen so far, one array a layer; `t` is the capacity."""

    keys: tuple[Float[Array, "b h t k"], ...]
    values: tuple[Float[Array, "b h t k"], ...]


class Relatives(eqx.Module):
    """What space groups, Wyckoff positions and elements share with those alike, so that what one learns serves the others.

    Projections of their features: `group` and `element` to their embeddings, `site` to token W, `letter` to the keys that the outputs at Z choose
    letters by.
    """

    group: Float[Array, "f e"]
    element: Float[Array, "f e"]
    site: Float[Array, "f d"]
    letter: Float[Array, "f k"]

    @staticmethod
    def init(key: PRNGKeyArray, shape: PolicyShape) -> Relatives:
        keys = jax.random.split(key, 4)
        e = shape.embed_size
        return Relatives(
            group=jax.random.normal(keys[0], (GROUP_FEATURES, e)) * 0.4,
            element=jax.random.normal(keys[1], (ELEMENT_FEATURES, e)) * 0.25,
            site=jax.random.normal(keys[2], (SITE_FEATURES, shape.model_size)) / jnp.sqrt(SITE_FEATURES),
            letter=jax.random.normal(keys[3], (SITE_FEATURES, shape.relatives)) / jnp.sqrt(SITE_FEATURES),
        )


class Policy(eqx.Module):
    """The generative policy. `blocks` holds all layers, stacked along the first axis of every array."""

    g_embedding: Float[Array, "230 e"]
    w_embedding: Float[Array, "wyck e"]
    a_embedding: Float[Array, "atom e"]
    first_w: tuple[Linear, Linear]
    inputs: tuple[Linear, Linear, Linear, Linear, Linear]
    blocks: Block
    final_norm: LayerNorm
    head: Linear
    relatives: Relatives | None
    shape: PolicyShape = eqx.field(static=True)

    @staticmethod
    def init(key: PRNGKeyArray, shape: PolicyShape) -> Policy:
        """Random weights."""
        e, d = shape.embed_size, shape.model_size
        keys = jax.random.split(key, 11)
        coordinate = e + 2 * shape.Nf
        widths = (2 * e + 1, 2 * e, coordinate, coordinate, coordinate)
        return Policy(
            g_embedding=jax.random.normal(keys[0], (230, e)) * 0.5,
            w_embedding=jax.random.normal(keys[1], (shape.wyck_types, e)) * 0.5,
            a_embedding=_element_embedding(keys[2], shape.atom_types, e),
            first_w=(
                Linear.init(keys[3], e, shape.h0_size),
                Linear.init(keys[4], shape.h0_size, shape.wyck_types + shape.relatives),
            ),
            inputs=tuple(Linear.init(k, n, d) for k, n in zip(keys[5:10], widths, strict=True)),  # type: ignore[arg-type]
            blocks=jax.vmap(lambda k: Block.init(k, shape))(jax.random.split(keys[10], shape.num_layers)),
            final_norm=LayerNorm.init(d),
            head=_head(jax.random.fold_in(key, 1), shape),
            relatives=Relatives.init(jax.random.fold_in(key, 2), shape) if shape.relatives else None,
            shape=shape,
        )

    def at_density_temperature(self, temperature: float) -> Policy:
        """The same weights, read as a policy whose coordinates and lattices are that near to where it takes them to be."""
        return dataclasses.replace(self, shape=dataclasses.replace(self.shape, density_temperature=temperature))

    def first_output(self, g: Int[Array, " b"]) -> Float[Array, "b o"]:
        """What `letter_logits` makes the first Wyckoff letter of, from the space group alone; as wide as an output's part that it reads."""
        hidden, out = self.first_w
        return out(jax.nn.gelu(hidden(self.embed_group(g)), approximate=True))

    def letter_logits(self, output: Float[Array, "*n o"], g: Int[Array, "*n"]) -> Float[Array, "*n wyck"]:
        """Logits of a site's Wyckoff letter, from the output at the Z before."""
        letters = self.shape.wyck_types
        logits = output[..., :letters]
        if self.relatives is None:
            return logits
        keys = (jnp.asarray(site_features(), logits.dtype) @ self.relatives.letter)[g]
        return logits + jnp.einsum("...k,...wk->...w", output[..., letters : letters + self.shape.relatives], keys)

    def element_logits(self, output: Float[Array, "*n o"]) -> Float[Array, "*n atom"]:
        """Logits of a site's element, from the output at its W."""
        elements = self.shape.atom_types
        logits = output[..., :elements]
        if self.relatives is None:
            return logits
        features = jnp.asarray(element_features()[:elements], logits.dtype)
        return logits + output[..., -ELEMENT_FEATURES:] @ features.T

    def embed_group(self, g: Int[Array, "*n"]) -> Float[Array, "*n e"]:
        """Embedding of a space group."""
        own = self.g_embedding[g - 1]
        if self.relatives is None:
            return own
        return own + (jnp.asarray(group_features(), own.dtype) @ self.relatives.group)[g]

    def embed_element(self, a: Int[Array, "*n"]) -> Float[Array, "*n e"]:
        """Embedding of an element."""
        own = self.a_embedding[a]
        if self.relatives is None:
            return own
        return own + (jnp.asarray(element_features(), own.dtype) @ self.relatives.element)[a]

    def embed_w(self, g: Int[Array, "*n"], w: Int[Array, "*n"]) -> Float[Array, "*n d"]:
        """Token W: space group, letter, multiplicity."""
        multiplicity = jnp.asarray(symmetry_arrays().multiplicities)[g, w][..., None]
        parts = (self.embed_group(g), self.w_embedding[w], multiplicity.astype(self.w_embedding.dtype))
        own = self.inputs[0](jnp.concatenate(parts, -1))
        if self.relatives is None:
            return own
        return own + (jnp.asarray(site_features(), own.dtype) @ self.relatives.site)[g, w]

    def embed_a(self, g: Int[Array, "*n"], a: Int[Array, "*n"]) -> Float[Array, "*n d"]:
        """Token A: space group, element."""
        return self.inputs[1](jnp.concatenate([self.embed_group(g), self.embed_element(a)], -1))

    def embed_x(self, axis: int | Int[Array, ""], g: Int[Array, "*n"], x: Float[Array, "*n"]) -> Float[Array, "*n d"]:
        """Token X, Y or Z (`axis` 0, 1, 2, traced or not): space group, harmonics of the coordinate."""
        # Coordinates and their harmonics are float32 whatever the weights are, as in the published code.
        angles = x[..., None] * (np.float32(2 * np.pi) * np.arange(1, self.shape.Nf + 1, dtype=np.float32))
        waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(*x.shape, 2 * self.shape.Nf)
        linear = jax.tree.map(lambda *leaves: jnp.stack(leaves)[axis], *self.inputs[2:])
        embedded = self.embed_group(g)
        return linear(jnp.concatenate([embedded, waves.astype(embedded.dtype)], -1))

    def outputs(
        self,
        g: Int[Array, " b"],
        w: Int[Array, "b s"],
        a: Int[Array, "b s"],
        x: Float[Array, "b s 3"],
        *,
        closed: bool = False,
        dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b s 5 o"]:
        """Raw outputs at every token, as `letter_logits`, `element_logits` and the densities read them; see `hidden`."""
        return self.head(self.hidden(g, w, a, x, closed=closed, dropout=dropout, key=key))

    def hidden(
        self,
        g: Int[Array, " b"],
        w: Int[Array, "b s"],
        a: Int[Array, "b s"],
        x: Float[Array, "b s 3"],
        *,
        closed: bool = False,
        dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b s 5 d"]:
        """The normalized state at every token, which the head reads: [..., 0] at W, 1 at A, 2 at X, 3 at Y, 4 at Z.

        `closed` says that the last place is padding in every sequence; nothing depends on its tokens after W,
        so they are not evaluated and their states are zero.
        """
        size, places = w.shape
        groups = jnp.broadcast_to(g[:, None], w.shape)
        coordinates = (self.embed_x(axis, groups, x[..., axis]) for axis in range(3))
        tokens = jnp.stack([self.embed_w(groups, w), self.embed_a(groups, a), *coordinates], axis=2)
        h = tokens.reshape(size, places * TOKENS_PER_SITE, -1)
        left_out = TOKENS_PER_SITE - 1 if closed else 0
        h = h[:, : h.shape[1] - left_out]
        cos, sin = (jnp.asarray(table, h.dtype)[:, None] for table in rotary_tables(h.shape[1], self.shape.key_size))
        rotation = (cos, sin)
        causal = jnp.tril(jnp.ones((h.shape[1], h.shape[1]), bool))
        keys = None if key is None else jax.random.split(key, self.shape.num_layers)

        def layer(h: Array, block_and_key: tuple[Block, PRNGKeyArray | None]) -> tuple[Array, None]:
            block, layer_key = block_and_key
            attention_key, mlp_key = (None, None) if layer_key is None else jax.random.split(layer_key)
            q, k, v = self._heads(block, h, rotation)
            h = h + _drop(block.output(_attend(q, k, v, causal)), dropout, attention_key)
            return h + _drop(_mlp(block, h), dropout, mlp_key), None

        h, _ = jax.lax.scan(layer, h, (self.blocks, keys), unroll=_UNROLL)
        states = jnp.pad(self.final_norm(h), ((0, 0), (0, left_out), (0, 0)))
        return states.reshape(size, places, TOKENS_PER_SITE, -1)

    def empty_cache(self, size: int, capacity: int) -> Cache:
        """A cache for `size` sequences of up to `capacity` tokens."""
        shape = (size, self.shape.num_heads, capacity, self.shape.key_size)
        zeros = tuple(jnp.zeros(shape, self.head.w.dtype) for _ in range(self.shape.num_layers))
        return Cache(zeros, zeros)

    def step(self, token: Float[Array, "b d"], position: Int[Array, ""], cache: Cache) -> tuple[Float[Array, "b o"], Cache]:
        """Raw output at one embedded token at `position`, and the cache with its keys and values."""
        h = token[:, None]
        capacity = cache.keys[0].shape[2]
        cos, sin = (jnp.asarray(table, h.dtype)[position] for table in rotary_tables(capacity, self.shape.key_size))
        rotation = (cos, sin)
        seen = jnp.arange(capacity) <= position
        all_keys, all_values = [], []
        for number in range(self.shape.num_layers):
            block = jax.tree.map(lambda leaf, i=number: leaf[i], self.blocks)
            q, k, v = (part[:, 0, :, None] for part in self._heads(block, h, rotation))
            keys = jax.lax.dynamic_update_slice_in_dim(cache.keys[number], k, position, axis=2)
            values = jax.lax.dynamic_update_slice_in_dim(cache.values[number], v, position, axis=2)
            h = h + block.output(_attend_to_cache(q[:, :, 0], keys, values, seen)[:, None])
            h = h + _mlp(block, h)
            all_keys.append(keys)
            all_values.append(values)
        return self.head(self.final_norm(h))[:, 0], Cache(tuple(all_keys), tuple(all_values))

    def _heads(self, block: Block, h: Float[Array, "b t d"], rotation: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        normed = block.attention_norm(h)
        split = (*h.shape[:2], self.shape.num_heads, self.shape.key_size)
        q, k, v = (linear(normed).reshape(split) for linear in (block.query, block.key, block.value))
        return _rotate(q, rotation), _rotate(k, rotation), v


def _element_embedding(key: PRNGKeyArray, atom_types: int, size: int) -> Float[Array, "atom e"]:
    """Random directions of the periodic table's features and some noise: elements that are alike start out alike."""
    features = jnp.asarray(element_features()[:atom_types], jnp.float32)
    feature_key, noise_key = jax.random.split(key)
    directions = jax.random.normal(feature_key, (features.shape[1], size))
    return 0.25 * features @ directions + 0.15 * jax.random.normal(noise_key, (atom_types, size))


def _head(key: PRNGKeyArray, shape: PolicyShape) -> Linear:
    """The output layer, its element logits alike for elements that are alike."""
    head = Linear.init(key, shape.model_size, shape.output_size, 0.1)
    elements = _element_embedding(jax.random.fold_in(key, 1), shape.atom_types, shape.model_size)
    w = head.w.at[:, : shape.atom_types].set(0.2 * elements.T / jnp.sqrt(shape.model_size))
    return Linear(w, head.b)


@lru_cache
def rotary_tables(positions: int, key_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (positions, key_size) of the rotary embedding, float32: base 10000, half-split form.

    float32 whatever the weights are, and the sines of the device itself instead of those that a compiler would fold
    in: so the published code computes them, and float64 likelihoods agree to 1e-12.
    """
    frequencies = (10000.0 ** (-np.arange(0, key_size, 2) / key_size)).astype(np.float32)
    angles = np.arange(positions, dtype=np.float32)[:, None] * np.concatenate([frequencies, frequencies])
    with jax.ensure_compile_time_eval():
        return np.asarray(jnp.cos(jnp.asarray(angles))), np.asarray(jnp.sin(jnp.asarray(angles)))


def _rotate(x: Float[Array, "b t h k"], rotation: tuple[Array, Array]) -> Float[Array, "b t h k"]:
    cos, sin = rotation
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-second, first], axis=-1) * sin


def _attend(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """Attention (b, t, heads * key_size); `mask` (t, s) is True where query t may see key s."""
    scores = jnp.einsum("bthk,bshk->bhts", q, k) / jnp.sqrt(jnp.asarray(q.shape[-1], q.dtype))
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhts,bshk->bthk", weights, v).reshape(*q.shape[:2], -1)


def _attend_to_cache(
    q: Float[Array, "b h k"], keys: Float[Array, "b h t k"], values: Float[Array, "b h t k"], seen: Bool[Array, " t"]
) -> Float[Array, "b hk"]:
    """Attention of one query a sequence. In this layout the products stream the cache once, without a transposed copy."""
    scores = jnp.einsum("bhk,bhtk->bht", q, keys) / jnp.sqrt(jnp.asarray(q.shape[-1], q.dtype))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bht,bhtk->bhk", weights, values).reshape(q.shape[0], -1)


def _mlp(block: Block, h: Array) -> Array:
    return block.down(jax.nn.gelu(block.up(block.mlp_norm(h)), approximate=True))


def _drop(x: Array, rate: float, key: PRNGKeyArray | None) -> Array:
    if key is None or rate == 0.0:
        return x
    # Bytes are four times cheaper to draw than floats; the rate is kept to 1/256.
    dropped = round(rate * 256)
    kept = jax.random.bits(key, x.shape, jnp.uint8) >= dropped
    return jnp.where(kept, x * (256 / (256 - dropped)), 0.0)
