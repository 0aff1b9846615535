# Plans only: nothing is asked of AWS.

provider "aws" {
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

override_resource {
  target          = aws_iam_role.push
  override_during = plan
  values          = { arn = "arn:aws:iam::123456789012:role/rise-backend-ecr-push" }
}

override_resource {
  target          = aws_iam_role.broker
  override_during = plan
  values          = { arn = "arn:aws:iam::123456789012:role/rise-backend" }
}

override_resource {
  target          = aws_iam_user.broker
  override_during = plan
  values          = { arn = "arn:aws:iam::123456789012:user/rise-backend" }
}

override_resource {
  target          = aws_iam_access_key.broker
  override_during = plan
  values          = { id = "AKIAEXAMPLE", secret = "example-secret" }
}

variables {
  repo_prefix = "rise/"
}

run "as_printed" {
  command = plan

  variables {
    name        = "rise-backend"
    auto_remove = false
    tags        = { Environment = "production", ManagedBy = "terraform" }
  }

  assert {
    condition = output.rise_config == {
      type          = "ecr"
      region        = "us-east-1"
      account_id    = "123456789012"
      repo_prefix   = "rise/"
      role_arn      = "arn:aws:iam::123456789012:role/rise-backend"
      push_role_arn = "arn:aws:iam::123456789012:role/rise-backend-ecr-push"
      auto_remove   = false
    }
    error_message = "rise_config is not what the broker's settings want"
  }

  assert {
    condition     = output.access_key_id == null && output.secret_access_key == null
    error_message = "there is a key without a user"
  }

  assert {
    condition     = alltrue([for role in [aws_iam_role.broker[0], aws_iam_role.push] : role.tags == var.tags])
    error_message = "the tags are missing"
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.push.policy).Statement[1].Resource == "arn:aws:ecr:us-east-1:123456789012:repository/rise/*"
    error_message = "the push role reaches other repositories"
  }

  assert {
    condition     = jsondecode(aws_iam_role.broker[0].assume_role_policy).Statement == [{ Sid = "Services", Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = ["ec2.amazonaws.com"] } }]
    error_message = "the broker's role trusts somebody else"
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.broker[0].policy).Statement == [{ Sid = "AssumePushRole", Effect = "Allow", Action = ["sts:AssumeRole"], Resource = "arn:aws:iam::123456789012:role/rise-backend-ecr-push" }]
    error_message = "the broker's role may do more than assume the push role"
  }
}

run "for_a_service_account" {
  command = plan

  variables {
    name                   = "rise-backend"
    irsa_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/ABC"
    irsa_namespace         = "rise-system"
    irsa_service_account   = "rise-backend"
  }

  assert {
    condition = jsondecode(aws_iam_role.broker[0].assume_role_policy).Statement == [{
      Sid       = "ServiceAccount"
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/ABC" }
      Condition = { StringEquals = {
        "oidc.eks.us-east-1.amazonaws.com/id/ABC:sub" = "system:serviceaccount:rise-system:rise-backend"
        "oidc.eks.us-east-1.amazonaws.com/id/ABC:aud" = "sts.amazonaws.com"
      } }
    }]
    error_message = "the role trusts somebody else than the service account"
  }
}

run "for_a_user" {
  command = plan

  variables {
    name            = "rise-backend"
    create_iam_role = false
    create_iam_user = true
  }

  assert {
    condition     = !contains(keys(output.rise_config), "role_arn")
    error_message = "rise_config names a role that does not exist"
  }

  assert {
    condition     = nonsensitive(output.access_key_id) == "AKIAEXAMPLE" && nonsensitive(output.secret_access_key) == "example-secret"
    error_message = "the keys of the user are missing"
  }

  assert {
    condition     = jsondecode(aws_iam_role.push.assume_role_policy).Statement[0].Principal.AWS == ["arn:aws:iam::123456789012:user/rise-backend"]
    error_message = "the push role does not trust the user"
  }
}

run "for_tokens_of_the_broker" {
  command = plan

  variables {
    broker_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/broker.example.com/rise"
    broker_subjects          = ["project:my-app:registry:prod:actions:*"]
    session_tags             = true
  }

  assert {
    condition = output.rise_config == {
      type          = "ecr"
      region        = "us-east-1"
      account_id    = "123456789012"
      repo_prefix   = "rise/"
      push_role_arn = "arn:aws:iam::123456789012:role/rise-backend-ecr-push"
      auto_remove   = false
      web_identity  = true
    }
    error_message = "rise_config is not what the broker's settings want"
  }

  assert {
    condition     = length(aws_iam_role.broker) == 0 && length(aws_iam_user.broker) == 0
    error_message = "there is a role or a user that nobody needs"
  }

  assert {
    condition = jsondecode(aws_iam_role.push.assume_role_policy).Statement == [{
      Sid       = "Tokens"
      Effect    = "Allow"
      Action    = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
      Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/broker.example.com/rise" }
      Condition = {
        StringEquals = { "broker.example.com/rise:aud" = "sts.amazonaws.com" }
        StringLike   = { "broker.example.com/rise:sub" = ["project:my-app:registry:prod:actions:*"] }
      }
    }]
    error_message = "the push role trusts something else than the broker's tokens"
  }
}

run "tags_of_sessions_are_allowed" {
  command = plan

  variables {
    session_tags = true
  }

  assert {
    condition     = toset(jsondecode(aws_iam_role.push.assume_role_policy).Statement[0].Action) == toset(["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"])
    error_message = "sessions cannot be tagged"
  }
}

run "sessions_are_denied_only_if_that_is_switched_on" {
  command = plan

  assert {
    condition     = length(aws_iam_role_policy.revocation) == 0 && length(aws_iam_policy.push_boundary) == 0
    error_message = "the broker may change the push role without being told to"
  }
}

run "the_broker_denies_sessions_within_a_boundary" {
  command = plan

  variables {
    revocation = true
  }

  assert {
    condition = toset(jsondecode(aws_iam_role_policy.revocation[0].policy).Statement[0].Action) == toset([
      "iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy",
    ])
    error_message = "the broker cannot deny a session"
  }

  assert {
    condition     = jsondecode(aws_iam_policy.push_boundary[0].policy) == jsondecode(aws_iam_role_policy.push.policy)
    error_message = "the boundary of the push role is not what it may do"
  }
}

run "repositories_are_managed_only_if_that_is_switched_on" {
  command = plan

  assert {
    condition     = length(aws_iam_role_policy.repositories) == 0 && length(aws_iam_user_policy.repositories) == 0
    error_message = "the broker may manage repositories without being told to"
  }
}

run "the_broker_manages_repositories" {
  command = plan

  variables {
    manage_repositories = true
  }

  assert {
    condition     = length(aws_iam_role_policy.repositories) == 1 && length(aws_iam_user_policy.repositories) == 0
    error_message = "the policy is not the role's"
  }

  assert {
    condition = toset(jsondecode(aws_iam_role_policy.repositories[0].policy).Statement[0].Action) == toset([
      "ecr:CreateRepository",
      "ecr:ListTagsForResource",
      "ecr:TagResource",
      "ecr:UntagResource",
      "ecr:GetLifecyclePolicy",
      "ecr:PutLifecyclePolicy",
      "ecr:PutImageScanningConfiguration",
      "ecr:PutImageTagMutability",
    ])
    error_message = "the broker may do more or less than manage repositories"
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.repositories[0].policy).Statement : statement.Resource] == [
      "arn:aws:ecr:us-east-1:123456789012:repository/rise/*",
      "arn:aws:ecr:us-east-1:123456789012:repository/*",
    ]
    error_message = "the broker manages other repositories"
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.push.policy, "CreateRepository") && !strcontains(aws_iam_role_policy.push.policy, "DeleteRepository")
    error_message = "credentials may create or delete"
  }
}

run "the_broker_deletes_only_with_auto_remove" {
  command = plan

  variables {
    manage_repositories = true
    auto_remove         = true
    create_iam_role     = false
    create_iam_user     = true
  }

  assert {
    condition     = contains(jsondecode(aws_iam_user_policy.repositories[0].policy).Statement[0].Action, "ecr:DeleteRepository")
    error_message = "the user cannot delete"
  }
}

run "nobody_would_manage_repositories" {
  command = plan

  variables {
    manage_repositories      = true
    broker_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/broker.example.com"
    broker_subjects          = ["project:*:registry:prod:actions:*"]
  }

  expect_failures = [aws_iam_role.push]
}

run "nobody_would_assume_it" {
  command = plan

  variables {
    create_iam_role = false
  }

  expect_failures = [aws_iam_role.push]
}

run "a_prefix_without_its_slash" {
  command = plan

  variables {
    repo_prefix = "rise"
  }

  expect_failures = [var.repo_prefix]
}

run "for_tokens_of_nobody" {
  command = plan

  variables {
    broker_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/broker.example.com/rise"
  }

  expect_failures = [aws_iam_role.push]
}
