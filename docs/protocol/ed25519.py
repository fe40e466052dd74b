"""Ed25519 signatures (RFC 8032, section 5.1), for the programs beside this file. Needs Python 3.8 and no packages. Not for use
with secrets: the arithmetic takes different times for different numbers.
"""

import hashlib

# The curve.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    e, f = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    g, h = 2 * D * t1 * t2 % P, 2 * z1 * z2 % P
    left, right, up, down = f - e, h - g, h + g, f + e
    return left * right % P, up * down % P, right * up % P, left * down % P


def times(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def equal(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def point_of(data):
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_small(point):
    return equal(times(8, point), (0, 1, 1, 0))


def is_signed(key, statement, signature):
    a, r = point_of(key), point_of(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= ORDER or is_small(a) or is_small(r):
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + statement).digest(), "little") % ORDER
    return equal(times(s, BASE), add(r, times(h, a)))


def written(point):
    x, y, z, _ = point
    inverse = pow(z, P - 2, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def expanded(secret):
    digest = hashlib.sha512(secret).digest()
    scalar = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
    return scalar, digest[32:]


def public_key(secret):
    return written(times(expanded(secret)[0], BASE))


def sign(secret, statement):
    scalar, prefix = expanded(secret)
    key = written(times(scalar, BASE))
    nonce = int.from_bytes(hashlib.sha512(prefix + statement).digest(), "little") % ORDER
    r = written(times(nonce, BASE))
    h = int.from_bytes(hashlib.sha512(r + key + statement).digest(), "little") % ORDER
    return r + ((nonce + h * scalar) % ORDER).to_bytes(32, "little")
