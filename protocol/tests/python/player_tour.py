"""A player's tour of the companion services by gRPC, with nothing but what reflection tells.

    python player_tour.py --connect HOST:PORT --ca ca.pem

Signs up, logs in, makes a character, asks where to appear, logs out. Prints `ok NAME` for each and ends with status 1 at the
first that fails. A game server must simulate the world "meadow" around its spawn point, as `zonecast dev` tells how.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

# Longest that one call may take, in seconds.
CALL_GUARD = 30.0
PASSWORD = "a snake in the long grass"


class Services:
    """All services behind one address."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.token: str | None = None

    def call(self, service: str, method: str, **fields: Any) -> Any:
        description = self.pool.FindServiceByName(service).methods_by_name[method]
        request = message_factory.GetMessageClass(description.input_type)
        answer = message_factory.GetMessageClass(description.output_type)
        rpc = self.channel.unary_unary(f"/{service}/{method}", request.SerializeToString, answer.FromString)
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else []
        return rpc(request(**fields), timeout=CALL_GUARD, metadata=metadata)

    def refused(self, code: grpc.StatusCode, service: str, method: str, **fields: Any) -> None:
        try:
            self.call(service, method, **fields)
        except grpc.RpcError as refused:
            if refused.code() != code:
                raise AssertionError(f"{method}: {refused.code()} ({refused.details()}), not {code}") from None
        else:
            raise AssertionError(f"{method} {fields} was not refused")


AUTH = "zonecast.auth.v1.AuthService"
CHARACTERS = "zonecast.characters.v1.CharactersService"
DIRECTORY = "zonecast.directory.v1.DirectoryService"


def tour(services: Services) -> None:
    user = services.call(AUTH, "Register", name="monty", password=PASSWORD).user_id
    services.refused(grpc.StatusCode.INVALID_ARGUMENT, AUTH, "Register", name="eric", password="short")
    services.refused(grpc.StatusCode.ALREADY_EXISTS, AUTH, "Register", name="MONTY", password=PASSWORD)
    print("ok sign up")

    services.refused(grpc.StatusCode.UNAUTHENTICATED, AUTH, "LogIn", name="monty", password=PASSWORD + "!")
    login = services.call(AUTH, "LogIn", name="monty", password=PASSWORD)
    assert login.user_id == user
    services.refused(grpc.StatusCode.UNAUTHENTICATED, CHARACTERS, "ListCharacters")
    services.token = login.tokens.access_token
    print("ok log in")

    made = services.call(CHARACTERS, "CreateCharacter", world="meadow", name="Monty").character
    listed = services.call(CHARACTERS, "ListCharacters").characters
    assert [character.id for character in listed] == [made.id], listed
    print("ok character")

    spawn = services.call(DIRECTORY, "Spawn", character_id=made.id)
    assert (spawn.server, spawn.world) == ("meadow", "meadow") and spawn.ticket.count(".") == 2, spawn
    print("ok spawn")

    services.call(AUTH, "LogOut", refresh_token=login.tokens.refresh_token)
    services.refused(grpc.StatusCode.UNAUTHENTICATED, AUTH, "Refresh", refresh_token=login.tokens.refresh_token)
    services.refused(grpc.StatusCode.UNAUTHENTICATED, CHARACTERS, "ListCharacters")
    print("ok log out")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connect", required=True, metavar="HOST:PORT", help="the services' address")
    parser.add_argument("--ca", required=True, type=pathlib.Path, help="the authority that signed their certificate")
    arguments = parser.parse_args()
    credentials = grpc.ssl_channel_credentials(arguments.ca.read_bytes())
    options = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(arguments.connect, credentials, options) as channel:
        tour(Services(channel))
    return 0


if __name__ == "__main__":
    sys.exit(main())
