"""Signs and checks tokens for the scenarios with PyJWT: one JSON request per line, one JSON answer per line."""
import base64, hashlib, hmac, json, sys

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


def new_key(name):
    if name.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if name.startswith("ed"):
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if name.startswith("p384") else ec.SECP256R1())


KEYS = {}


def key(name):
    if name not in KEYS:
        KEYS[name] = new_key(name)
    return KEYS[name]


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(n, size=None):
    return b64(n.to_bytes(size or (n.bit_length() + 7) // 8, "big"))


def pem(name):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key(name).public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def jwk(name):
    public = key(name).public_key()
    if name.startswith("rsa"):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    if name.startswith("ed"):
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}
    numbers, size, curve = public.public_numbers(), 32, "P-256"
    if name.startswith("p384"):
        size, curve = 48, "P-384"
    return {"kty": "EC", "crv": curve, "x": number(numbers.x, size), "y": number(numbers.y, size)}


def sign(order):
    alg, secret = order["alg"], order.get("secret")
    if "claims" in order and "header_text" not in order:
        return jwt.encode(order["claims"], secret or key(order["key"]), algorithm=alg, headers=order.get("header"))
    # What no library would write: the parts as they are, signed by PyJWT's algorithm, or by HMAC with anything.
    payload = order.get("payload_text") or json.dumps(order["claims"])
    signed = b64(order["header_text"].encode()) + "." + b64(payload.encode())
    if alg == "none":
        return signed + "."
    if secret is not None:
        signature = hmac.new(secret.encode(), signed.encode(), getattr(hashlib, "sha" + alg[2:])).digest()
    else:
        algorithm = jwt.algorithms.get_default_algorithms()[alg]
        signature = algorithm.sign(signed.encode(), key(order["key"]))
    return signed + "." + b64(signature)


def check(order):
    public = order.get("secret") or key(order["key"]).public_key()
    options = {"verify_aud": "aud" in order}
    try:
        jwt.decode(order["token"], public, algorithms=[order["alg"]], audience=order.get("aud"), options=options)
        return "ok"
    except (jwt.PyJWTError, ValueError, RecursionError, AttributeError, TypeError) as e:  # it does not catch all itself
        return type(e).__name__


ANSWERS = {"sign": sign, "check": check, "pem": lambda order: pem(order["key"]),
           "jwks": lambda order: {"keys": [{**jwk(k["key"]), **k["more"]} for k in order["keys"]]}}

for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps(ANSWERS[order["op"]](order)), flush=True)
