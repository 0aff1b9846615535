"""Tests of the provider with doubles of the capabilities: `make test`."""

import json
import unittest
from unittest import mock

import provider
from componentize_py_types import Err
from wit_world.imports import http, secrets, types

SETTINGS = {"base_url": "https://r.example.com", "repo_prefix": "team/", "admin_token": "admin"}
TOKEN = {"username": "token-7", "token": None, "expires_at": 1_800_000_600}


def issue(text, success=None):
    """Returns the result of `issue` while the registry answers `text`, and its request."""
    grant = mock.Mock(spec=types.Grant)
    grant.project.return_value = "my-app"
    grant.actions.return_value = types.Actions.PULL
    grant.lifetime.return_value = 600
    response = mock.Mock(spec=http.Response)
    response.text.return_value = text
    response.success.side_effect = success
    with (
        mock.patch.object(secrets, "get") as secret,
        mock.patch.object(http, "Request") as request,
        mock.patch.object(http, "send", return_value=response),
    ):
        issued = provider.Registry().issue(json.dumps(SETTINGS), grant)
    secret.assert_called_once_with("admin")
    return issued, request


class Issue(unittest.TestCase):
    def test_a_token_is_made_for_what_was_granted(self):
        issued, request = issue(json.dumps(TOKEN))
        self.assertEqual(issued.expires_at, TOKEN["expires_at"])
        self.assertEqual(issued.credential.value.username, "token-7")
        request.assert_called_once_with(http.Method.POST, "https://r.example.com/api/tokens")
        (body,) = request.return_value.json.call_args.args
        asked = {"repository": "team/my-app", "actions": ["pull"], "lifetime": 600}
        self.assertEqual(json.loads(body), asked)

    def test_errors_of_the_registry_are_handed_on(self):
        denied = Err(types.Error_Denied("POST r.example.com/api/tokens answered 403"))
        with self.assertRaises(Err) as raised:
            issue("", success=denied)
        self.assertIs(raised.exception.value, denied.value)

    def test_an_unexpected_answer_is_an_error_of_the_contract(self):
        for text in ["", "[]", "{}", json.dumps(TOKEN | {"expires_at": "soon"})]:
            with self.assertRaises(Err) as raised:
                issue(text)
            self.assertIsInstance(raised.exception.value, types.Error_Failed, text)


class Places(unittest.TestCase):
    def test_resolve_is_the_inverse_of_locate(self):
        registry, settings = provider.Registry(), json.dumps(SETTINGS)
        location = registry.locate(settings, "my-app")
        self.assertEqual(location, types.Location("r.example.com", "team/my-app"))
        self.assertEqual(registry.resolve(settings, location), "my-app")
        self.assertIsNone(registry.resolve(settings, types.Location("s.example.com", "my-app")))
