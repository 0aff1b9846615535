"""nexus-api-client of Sonatype's community against a double of Nexus Repository 3. Arguments: the
URL, a user, a password, then a command. Prints JSON.

    create ID PASSWORD ROLE...   makes a local user
    find TEXT                    lists the ids of the local users that begin with the text
    delete ID                    deletes one
"""

import json
import sys

from nexus_api_client import ApiClient, ApiCreateUser, Configuration, SecurityManagementUsersApi
from nexus_api_client.exceptions import ApiException


class Client:
    def __init__(self, url, user, password):
        host = f"{url}/service/rest"
        client = ApiClient(Configuration(host=host, username=user, password=password))
        self.api = SecurityManagementUsersApi(client)

    def create(self, user, password, *roles):
        made = self.api.create_security_users(ApiCreateUser(
            user_id=user, first_name="Job", last_name="One", email_address="job@example.invalid",
            password=password, status="active", roles=list(roles),
        ))
        return made.to_dict()

    def find(self, text):
        found = self.api.list_security_users(user_id=text, source="default")
        return [user.user_id for user in found]

    def delete(self, user):
        self.api.delete_security_users(user)
        return True


url, user, password, command, *arguments = sys.argv[1:]
try:
    print(json.dumps({"ok": getattr(Client(url, user, password), command)(*arguments)}))
except ApiException as error:
    print(json.dumps({"error": str(error)}))
