"""Small tf_keras models, one for each kind of thing that a file of Keras 2 can hold."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from groupnorm.legacy import GroupNormalization, InstanceNormalization

L = tf_keras.layers
Input, Model, Sequential = tf_keras.Input, tf_keras.Model, tf_keras.Sequential


def convolutions():
    x = Input((16, 18, 4))
    y = L.Conv2D(6, 3, groups=2, padding="same", activation="swish")(x)
    y = L.BatchNormalization(axis=-1)(y)
    y = L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(y)
    y = L.SeparableConv2D(5, 3, strides=2)(y)
    y = L.Conv2DTranspose(4, 3, strides=2, output_padding=1)(y)
    y = L.ZeroPadding2D(((1, 0), (2, 1)))(y)
    y = L.Cropping2D(1)(y)
    y = L.UpSampling2D(2, interpolation="bilinear")(y)
    y = L.MaxPooling2D(2)(y)
    y = L.AveragePooling2D(2, padding="same")(y)
    y = L.SpatialDropout2D(0.2)(y)
    y = L.PReLU(shared_axes=[1, 2])(y)
    y = L.ThresholdedReLU(0.1)(y)
    y = L.LeakyReLU(0.2)(y)
    return Model(x, L.GlobalMaxPooling2D()(L.Softmax()(y)))


def one_dimensional():
    return Sequential(
        [
            L.Conv1D(4, 3, padding="causal", dilation_rate=2, input_shape=(20, 3)),
            L.LayerNormalization(epsilon=1e-4),
            L.GaussianNoise(0.1),
            L.AlphaDropout(0.1),
            L.Conv1DTranspose(3, 3),
            L.MaxPooling1D(),
            L.ELU(0.5),
            L.Flatten(),
            L.RepeatVector(2),
            L.Permute((2, 1)),
            L.Reshape((-1, 3)),
            L.DepthwiseConv1D(2),
            L.SeparableConv1D(2, 2),
            L.GlobalAveragePooling1D(),
            L.ActivityRegularization(l2=0.1),
            L.UnitNormalization(),
            L.Dense(2, "gelu", kernel_regularizer="l2", bias_constraint="non_neg"),
        ]
    )


def three_dimensional():
    return Sequential(
        [
            Input((6, 6, 6, 2)),
            L.Conv3D(3, 2),
            L.Conv3DTranspose(2, 2),
            L.MaxPooling3D(),
            L.GlobalAveragePooling3D(keepdims=True),
        ]
    )


def recurrent():
    x = Input((None, 5))
    y = L.LSTM(4, return_sequences=True, recurrent_dropout=0.1)(L.Masking(0.0)(x))
    y = L.Bidirectional(
        L.GRU(3, return_sequences=True, reset_after=False),
        merge_mode="sum",
        backward_layer=L.GRU(3, return_sequences=True, go_backwards=True),
    )(y)
    y = L.RNN([L.LSTMCell(3), L.GRUCell(4)], return_sequences=True)(y)
    y = L.RNN(L.SimpleRNNCell(3), return_sequences=True)(y)
    y = L.TimeDistributed(L.Dense(3))(y)
    return Model(x, L.SimpleRNN(2, go_backwards=True)(y))


def initial_states():
    x, z = Input((7, 4)), Input((6, 4))
    _, h, c = L.LSTM(3, return_state=True)(x)
    y = L.LSTM(3, return_sequences=True)(z, initial_state=[h, c])
    return Model([x, z], [y, L.Bidirectional(L.LSTM(3))(y, initial_state=[h, c, h, c])])


def stateful():
    return Sequential([Input(batch_shape=(2, 5, 3)), L.LSTM(2, stateful=True)])


def attention():
    x, z, mask = Input((7, 8)), Input((5, 8)), Input((7, 5), dtype="bool")
    y = L.MultiHeadAttention(2, 4)(x, z, attention_mask=mask)
    y = L.Attention(use_scale=True)([y, z])
    return Model([x, z, mask], L.AdditiveAttention()([y, z]))


def mask_as_keyword():
    tokens = Input((None,), dtype="int32")
    mask = tf.not_equal(tokens, 0)
    y = L.Embedding(11, 6)(tokens)
    y = GroupNormalization(2, use_mask=True)(y, mask=mask)
    return Model(tokens, L.LSTM(3)(y, mask=mask))


def tokens_as_floats():
    # The input that tf_keras itself puts before an embedding is of float32.
    embedding = L.Embedding(13, 4, input_length=9, mask_zero=True)
    model = Sequential([embedding, L.LSTM(3), L.Dense(1, "sigmoid")])
    model.build((None, 9))
    return model


def merges():
    x = [Input((4, 6)), Input((4, 6))]
    kinds = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)
    y = [kind()(x) for kind in kinds]
    return Model(x, [*y, L.Concatenate(1)(x), L.Dot((2, 2), normalize=True)(x)])


def dictionaries():
    x = {"left": Input((3,), name="left"), "right": Input((3,), name="right")}
    total = L.Add()([x["left"], x["right"]])
    return Model(x, {"sum": total, "first": L.Dense(2)(x["left"])})


def model_over_time():
    image = Input((8, 8, 3))
    y = InstanceNormalization()(L.Conv2D(4, 3)(image))
    frame = Model(image, L.GlobalMaxPooling2D()(y))
    x = Input((None, 8, 8, 3))
    return Model(x, L.GRU(3)(L.TimeDistributed(frame)(x)))


def shared_frozen_model():
    inner = Sequential([L.Dense(4, input_shape=(3,)), L.BatchNormalization()])
    inner.trainable = False
    x = Input((3,))
    y = inner(x)
    return Model(x, [y, L.Dense(2)(inner(L.Dense(3)(y)))])


def preprocessing():
    normalization = L.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(5, 3, (50, 4, 4, 3)))
    return Sequential(
        [
            Input((4, 4, 3)),
            L.RandomFlip(),
            L.RandomRotation(0.1),
            L.Rescaling(1 / 255.0, offset=-1),
            normalization,
            L.Resizing(6, 5),
            L.CenterCrop(4, 4),
        ]
    )


def activations_and_names():
    return Sequential(
        [
            Input((3,)),
            L.Dense(4, activation=L.LeakyReLU(0.2)),
            L.Activation("tanh"),
            L.Dense(2, "softmax", name="with/slash"),
        ]
    )


def operators():
    x = Input((4, 6))
    y = L.Dense(6, name="add")(x)  # the name that Keras 3 would give an operation
    outputs = [
        x + y,
        x - 1.0,
        1.0 - x,
        2 * x,
        x / (1 + tf.abs(y)),
        1 / (x * x + 1),
        x // 2.0,
        x % 2.0,
        x**2,
        -x,
        x + np.arange(6, dtype="float32"),
        x @ tf.transpose(y, [0, 2, 1]),
        tf.matmul(x, y, transpose_b=True),
        x[:, 0],
        x[:, tf.newaxis, ::-1],
        x > y,
        tf.argmax(x, -1),
        tf.cast(x, "float64"),
        tf.clip_by_value(x, 0, 1),
        tf.concat([x, y], -1),
        tf.exp(x / 100),
        tf.expand_dims(x, 1),
        tf.math.log(x),
        tf.math.rsqrt(tf.square(x) + 0.1),
        tf.maximum(x, 0.0),
        tf.nn.gelu(x),
        tf.nn.leaky_relu(x),
        tf.nn.relu6(x),
        tf.nn.softmax(x),
        tf.nn.swish(x),
        tf.pad(x, [[0, 0], [1, 1], [0, 0]]),
        tf.reduce_sum(x, axis=[1], keepdims=True),
        tf.reshape(x, [-1, 24]),
        tf.sigmoid(x),
        tf.squeeze(tf.expand_dims(x, 1), 1),
        tf.stack([x, y], 1),
        tf.tanh(x),
        tf.tile(x, [1, 2, 1]),
        tf.where(x > 0, x, y),
        tf_keras.backend.mean(x, axis=1),
    ]
    return Model(x, outputs)


def image_resize():
    x = Input((4, 4, 3))
    return Model(x, tf.image.resize(x, [8, 6]) * 2.0)


def convolution_over_time():
    return Sequential(
        [Input((3, 6, 6, 2)), L.ConvLSTM2D(3, 2, recurrent_activation="sigmoid")]
    )


def double_precision():
    x = Input((4, 6), dtype="float64")
    return Model(x, GroupNormalization(3, dtype="float64")(x))


MODELS = {
    function.__name__: function
    for function in (
        activations_and_names,
        attention,
        convolution_over_time,
        convolutions,
        dictionaries,
        double_precision,
        image_resize,
        initial_states,
        mask_as_keyword,
        merges,
        model_over_time,
        one_dimensional,
        operators,
        preprocessing,
        recurrent,
        shared_frozen_model,
        stateful,
        three_dimensional,
        tokens_as_floats,
    )
}


def make(name):
    """The model, with weights unlike those that it starts with."""
    tf_keras.utils.set_random_seed(1)
    model = MODELS[name]()
    rng = np.random.default_rng(1)
    model.set_weights(
        [
            w + rng.uniform(0.05, 0.5, w.shape).astype(w.dtype) if w.ndim else w
            for w in model.get_weights()
        ]
    )
    return model


def sample(model):
    """An input of the model's structure."""
    rng = np.random.default_rng(2)

    def array(tensor):
        batch, *rest = tensor.shape
        shape = (2 if batch is None else batch, *(n or 8 for n in rest))
        if tensor.dtype.is_floating and len(rest) > 1:
            return rng.normal(1, 2, shape).astype(tensor.dtype.name)
        values = rng.integers(0, 2, shape).astype(tensor.dtype.as_numpy_dtype)
        values[..., 0] = 1  # no mask hides everything: Keras 3 averages otherwise then
        return values

    return tf.nest.map_structure(array, model._nested_inputs)
