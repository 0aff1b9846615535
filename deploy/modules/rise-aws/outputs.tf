output "rise_config" {
  description = "The settings of a registry of the broker: the members of [registries.NAME]."
  value = merge(
    {
      type          = "ecr"
      region        = local.region
      account_id    = local.account_id
      repo_prefix   = var.repo_prefix
      push_role_arn = aws_iam_role.push.arn
      auto_remove   = var.auto_remove
    },
    local.create_iam_role ? { role_arn = aws_iam_role.broker[0].arn } : {},
    local.broker_issuer != null ? { web_identity = true } : {},
    var.broker_audience != "sts.amazonaws.com" ? { audience = var.broker_audience } : {},
  )
}

output "access_key_id" {
  description = "Access key of the user, for the setting of the same name; null without a user."
  value       = one(aws_iam_access_key.broker[*].id)
}

output "secret_access_key" {
  description = "Secret key of the user, for the setting of the same name; null without a user."
  value       = one(aws_iam_access_key.broker[*].secret)
  sensitive   = true
}
