"""A tour of the companion services by gRPC, from outside of their own code base.

    python services_tour.py --connect HOST:PORT --ca ca.pem

Once with a client generated from the .proto files, once with nothing but what reflection tells, and then what health
checks and browsers (grpc-web) are told. Prints `ok NAME` for each and ends with status 1 at the first that fails.
"""

from __future__ import annotations

import argparse
import http.client
import importlib
import pathlib
import ssl
import struct
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import grpc
import grpc_tools
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
SERVICE = "zonecast.users.v1.UsersService"

# Longest that one call may take, in seconds.
CALL_GUARD = 30.0

# Calls a method of the service by its name, with the fields of its request.
Caller = Callable[..., Any]


def expect_equal(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, not {expected!r}")


def expect_refused(call: Caller, code: grpc.StatusCode, method: str, **fields: Any) -> None:
    try:
        call(method, **fields)
    except grpc.RpcError as refused:
        expect_equal(refused.code(), code, f"{method} {fields}")
    else:
        raise AssertionError(f"{method} {fields} was not refused")


def generated_caller(channel: grpc.Channel, directory: str) -> Caller:
    """A client that `protoc` made of the .proto files."""
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    file = "zonecast/users/v1/users.proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={directory}", f"--grpc_python_out={directory}"]
    expect_equal(protoc.main([*arguments, file]), 0, "protoc")
    sys.path.insert(0, directory)
    messages = importlib.import_module("zonecast.users.v1.users_pb2")
    stub = importlib.import_module("zonecast.users.v1.users_pb2_grpc").UsersServiceStub(channel)

    def call(method: str, **fields: Any) -> Any:
        return getattr(stub, method)(getattr(messages, f"{method}Request")(**fields), timeout=CALL_GUARD)

    return call


def reflected_caller(channel: grpc.Channel) -> Caller:
    """A client that knows nothing but the address."""
    database = ProtoReflectionDescriptorDatabase(channel)
    if SERVICE not in database.get_services():
        raise AssertionError(f"reflection does not tell of {SERVICE}: {database.get_services()}")
    service = descriptor_pool.DescriptorPool(database).FindServiceByName(SERVICE)

    def call(method: str, **fields: Any) -> Any:
        description = service.methods_by_name[method]
        request = message_factory.GetMessageClass(description.input_type)
        answer = message_factory.GetMessageClass(description.output_type)
        rpc = channel.unary_unary(f"/{SERVICE}/{method}", request.SerializeToString, answer.FromString)
        return rpc(request(**fields), timeout=CALL_GUARD)

    return call


def tour(call: Caller, name: str) -> None:
    made = call("CreateUser", name=name).user
    expect_equal((made.name, len(made.id)), (name, 36), "the user that was made")
    expect_refused(call, grpc.StatusCode.ALREADY_EXISTS, "CreateUser", name=name.upper())
    expect_refused(call, grpc.StatusCode.INVALID_ARGUMENT, "CreateUser", name="a\u200bb\n")
    expect_equal(call("GetUser", name=name.title()).user, made, "the user by name")
    renamed = call("UpdateUser", id=made.id, etag=made.etag, name=name + ".2").user
    expect_equal(renamed.name, name + ".2", "the new name")
    expect_refused(call, grpc.StatusCode.ABORTED, "UpdateUser", id=made.id, etag=made.etag, name=name)
    listed = call("ListUsers", page_size=1_000).users
    expect_equal([user.id for user in listed].count(made.id), 1, "times that the user is listed")
    call("DeleteUser", id=made.id, etag=renamed.etag)
    expect_refused(call, grpc.StatusCode.NOT_FOUND, "GetUser", id=made.id)


def health(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_GUARD)
        expect_equal(answer.status, health_pb2.HealthCheckResponse.SERVING, f"health of {service!r}")


def grpc_web(address: str, ca: str) -> None:
    """As a browser calls: HTTP/1.1, and the trailers in the body."""
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=ca)
    connection = http.client.HTTPSConnection(host, int(port), timeout=CALL_GUARD, context=context)
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    connection.request("POST", f"/{SERVICE}/ListUsers", body=struct.pack(">BI", 0, 0), headers=headers)
    response = connection.getresponse()
    body = response.read()
    expect_equal(response.status, 200, "the HTTP status")
    if b"grpc-status:0" not in body:
        raise AssertionError(f"no status OK in {body!r}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connect", required=True)
    parser.add_argument("--ca", required=True)
    options = parser.parse_args()
    credentials = grpc.ssl_channel_credentials(pathlib.Path(options.ca).read_bytes())
    with grpc.secure_channel(options.connect, credentials) as channel, tempfile.TemporaryDirectory() as directory:
        tour(reflected_caller(channel), "by.reflection")
        print("ok reflection")
        tour(generated_caller(channel, directory), "by.files")
        print("ok proto_files")
        health(channel)
        print("ok health")
        grpc_web(options.connect, options.ca)
        print("ok grpc_web")


if __name__ == "__main__":
    main()
