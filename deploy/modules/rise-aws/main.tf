# The two roles of a broker: its own, which may only assume the push role, and the push role, whose
# sessions the broker narrows to one repository for each credential. A broker that proves itself by
# tokens of its own needs the push role only.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.name

  irsa_issuer = try(split(":oidc-provider/", var.irsa_oidc_provider_arn)[1], null)

  # The broker's own URL, without its https://.
  broker_issuer = try(split(":oidc-provider/", var.broker_oidc_provider_arn)[1], null)

  create_iam_role = var.create_iam_role && local.broker_issuer == null

  # A broker comes as its role, or as the user if there is no role.
  broker_arns = local.create_iam_role ? aws_iam_role.broker[*].arn : aws_iam_user.broker[*].arn

  tag_actions    = var.session_tags ? ["sts:TagSession", "sts:SetSourceIdentity"] : []
  assume_actions = concat(["sts:AssumeRole"], local.tag_actions)

  service_account_trust = local.irsa_issuer == null ? [] : [{
    Sid       = "ServiceAccount"
    Effect    = "Allow"
    Action    = "sts:AssumeRoleWithWebIdentity"
    Principal = { Federated = var.irsa_oidc_provider_arn }
    Condition = {
      StringEquals = {
        "${local.irsa_issuer}:sub" = "system:serviceaccount:${var.irsa_namespace}:${var.irsa_service_account}"
        "${local.irsa_issuer}:aud" = "sts.amazonaws.com"
      }
    }
  }]

  services_trust = local.irsa_issuer != null || length(var.trusted_services) == 0 ? [] : [{
    Sid       = "Services"
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { Service = var.trusted_services }
  }]

  keys_trust = local.broker_issuer != null ? [] : [{
    Sid       = "Broker"
    Effect    = "Allow"
    Action    = local.assume_actions
    Principal = { AWS = local.broker_arns }
  }]

  tokens_trust = local.broker_issuer == null ? [] : [{
    Sid       = "Tokens"
    Effect    = "Allow"
    Action    = concat(["sts:AssumeRoleWithWebIdentity"], local.tag_actions)
    Principal = { Federated = var.broker_oidc_provider_arn }
    Condition = {
      StringEquals = { "${local.broker_issuer}:aud" = var.broker_audience }
      StringLike   = { "${local.broker_issuer}:sub" = var.broker_subjects }
    }
  }]

  # What the broker's own identity does with repositories. Credentials never can: they are sessions
  # of the push role.
  repositories_arn = "arn:${local.partition}:ecr:${local.region}:${local.account_id}:repository/"
  manage_actions = concat([
    "ecr:CreateRepository",
    "ecr:ListTagsForResource",
    "ecr:TagResource",
    "ecr:UntagResource",
    "ecr:GetLifecyclePolicy",
    "ecr:PutLifecyclePolicy",
    "ecr:PutImageScanningConfiguration",
    "ecr:PutImageTagMutability",
  ], var.auto_remove ? ["ecr:DeleteRepository"] : [])
  manage_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Manage"
        Effect   = "Allow"
        Action   = local.manage_actions
        Resource = "${local.repositories_arn}${var.repo_prefix}*"
      },
      # A listing names no repository.
      {
        Sid      = "List"
        Effect   = "Allow"
        Action   = "ecr:DescribeRepositories"
        Resource = "${local.repositories_arn}*"
      },
    ]
  })

  # What the broker's own identity does to end a session of the push role.
  revocation_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "Revoke"
      Effect   = "Allow"
      Action   = ["iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"]
      Resource = aws_iam_role.push.arn
    }]
  })

  push_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # IAM has no resource for this action.
      {
        Sid      = "Login"
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*"
      },
      {
        Sid    = "Images"
        Effect = "Allow"
        Action = [
          "ecr:BatchGetImage",
          "ecr:GetDownloadUrlForLayer",
          "ecr:BatchCheckLayerAvailability",
          "ecr:InitiateLayerUpload",
          "ecr:UploadLayerPart",
          "ecr:CompleteLayerUpload",
          "ecr:PutImage",
        ]
        Resource = "arn:${local.partition}:ecr:${local.region}:${local.account_id}:repository/${var.repo_prefix}*"
      },
    ]
  })

  user_trust = [for arn in aws_iam_user.broker[*].arn : {
    Sid       = "User"
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { AWS = arn }
  }]
}

# The broker's own role

resource "aws_iam_role" "broker" {
  count = local.create_iam_role ? 1 : 0

  name        = var.name
  description = "The registry credential broker"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.service_account_trust, local.services_trust, local.user_trust)
  })
}

resource "aws_iam_role_policy" "broker" {
  count = local.create_iam_role ? 1 : 0

  name = "assume-push-role"
  role = aws_iam_role.broker[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "AssumePushRole"
      Effect   = "Allow"
      Action   = local.assume_actions
      Resource = aws_iam_role.push.arn
    }]
  })
}

resource "aws_iam_role_policy" "repositories" {
  count = var.manage_repositories && local.create_iam_role ? 1 : 0

  name   = "manage-repositories"
  role   = aws_iam_role.broker[0].id
  policy = local.manage_policy
}

resource "aws_iam_role_policy" "revocation" {
  count = var.revocation && local.create_iam_role ? 1 : 0

  name   = "revoke"
  role   = aws_iam_role.broker[0].id
  policy = local.revocation_policy
}

# The user of a broker outside AWS

resource "aws_iam_user" "broker" {
  #checkov:skip=CKV_AWS_273:A broker outside AWS has no other identity. Nobody logs in as this user.
  count = var.create_iam_user ? 1 : 0

  name = var.name
  tags = var.tags
}

resource "aws_iam_user_policy" "broker" {
  #checkov:skip=CKV_AWS_40:The user is created for this one policy.
  count = var.create_iam_user ? 1 : 0

  name = "assume-role"
  user = aws_iam_user.broker[0].name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "AssumeRole"
      Effect   = "Allow"
      Action   = local.assume_actions
      Resource = local.create_iam_role ? aws_iam_role.broker[0].arn : aws_iam_role.push.arn
    }]
  })
}

resource "aws_iam_user_policy" "repositories" {
  #checkov:skip=CKV_AWS_40:The user is created for the broker alone.
  count = var.manage_repositories && var.create_iam_user && !local.create_iam_role ? 1 : 0

  name   = "manage-repositories"
  user   = aws_iam_user.broker[0].name
  policy = local.manage_policy
}

resource "aws_iam_user_policy" "revocation" {
  #checkov:skip=CKV_AWS_40:The user is created for the broker alone.
  count = var.revocation && var.create_iam_user && !local.create_iam_role ? 1 : 0

  name   = "revoke"
  user   = aws_iam_user.broker[0].name
  policy = local.revocation_policy
}

resource "aws_iam_access_key" "broker" {
  count = var.create_iam_user ? 1 : 0

  user = aws_iam_user.broker[0].name
}

# The push role: the most that any credential may do

resource "aws_iam_role" "push" {
  name        = "${var.name}-ecr-push"
  description = "Sessions of the registry credential broker, each for one repository"
  tags        = var.tags

  permissions_boundary = one(aws_iam_policy.push_boundary[*].arn)

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.keys_trust, local.tokens_trust)
  })

  lifecycle {
    precondition {
      condition     = local.broker_issuer == null || length(var.broker_subjects) > 0
      error_message = "Set broker_subjects to the tokens that may assume the push role, such as [\"project:*:registry:prod:actions:*\"]."
    }
    precondition {
      condition     = !var.manage_repositories || local.broker_issuer == null
      error_message = "Set manage_repositories or broker_oidc_provider_arn, not both: a broker without a role of its own cannot manage repositories."
    }
    precondition {
      condition     = !var.revocation || local.broker_issuer == null
      error_message = "Set revocation or broker_oidc_provider_arn, not both: a broker without a role of its own cannot deny sessions."
    }
    precondition {
      condition     = var.create_iam_role || var.create_iam_user || local.broker_issuer != null
      error_message = "Set create_iam_role or create_iam_user: nobody else could assume the push role."
    }
  }
}

resource "aws_iam_role_policy" "push" {
  name   = "images"
  role   = aws_iam_role.push.id
  policy = local.push_policy
}

# A broker that may write policies of the push role could write more than a deny.
resource "aws_iam_policy" "push_boundary" {
  count = var.revocation ? 1 : 0

  name        = "${var.name}-ecr-push-boundary"
  description = "The most that the push role may do, whatever its policies say"
  policy      = local.push_policy
  tags        = var.tags
}
