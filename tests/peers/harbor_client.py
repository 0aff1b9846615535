"""harborapi against a double of Harbor. Arguments: the URL, a user, a password, then a command.
Prints JSON.

    create PROJECT NAME ACTION...   makes a robot of a project, for a day
    find PROJECT_ID NAME            lists the robots of the project with this name
    delete ID                       deletes a robot
"""

import asyncio
import json
import sys

from harborapi import HarborAsyncClient
from harborapi.exceptions import HarborAPIException
from harborapi.models import Access, RobotCreate, RobotPermission


async def create(client, project, name, *actions):
    access = [Access(resource="repository", action=action) for action in actions]
    permission = RobotPermission(kind="project", namespace=project, access=access)
    made = await client.create_robot(
        RobotCreate(name=name, level="project", duration=1, permissions=[permission])
    )
    return made.model_dump(mode="json")


async def find(client, project_id, name):
    query = f"Level=project,ProjectID={project_id},name=~{name}"
    return [robot.name for robot in await client.get_robots(query=query)]


async def delete(client, robot_id):
    await client.delete_robot(int(robot_id))
    return True


async def main(url, user, password, command, *arguments):
    client = HarborAsyncClient(url=f"{url}/api/v2.0", username=user, secret=password)
    commands = {"create": create, "find": find, "delete": delete}
    return await commands[command](client, *arguments)


try:
    print(json.dumps({"ok": asyncio.run(main(*sys.argv[1:]))}))
except HarborAPIException as error:
    response = getattr(error.__cause__, "response", None)
    print(json.dumps({"status": response.status_code if response else 0, "error": str(error)}))
